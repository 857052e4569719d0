//! The command `farlane`.

use std::process::ExitCode;

fn main() -> ExitCode {
    farlane::cli::main()
}
