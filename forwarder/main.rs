//! The command `farlane`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    farlane::cli::main()
}
