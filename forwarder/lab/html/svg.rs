//! The few elements that the plots are made of. Coordinates are in the view box's units, which are
//! about CSS pixels; colours are classes of the page's style, so that they follow the scheme.

use std::fmt::Write;

/// A drawing.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Svg {
    /// An empty drawing, with what it shows in one line and in all its values for those who do not
    /// see it.
    pub(super) fn new(width: f64, height: f64, title: &str, description: &str) -> Svg {
        Svg {
            width,
            height,
            title: escape(title),
            description: escape(description),
            body: String::new(),
        }
    }

    pub(super) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"2\"/>",
            width.max(0.0)
        );
    }

    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        );
    }

    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let _ = writeln!(
            self.body,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"
        );
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut data = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let _ = write!(data, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
        }
        let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{data}\"/>");
    }

    /// Text on its baseline; `anchor` is `start`, `middle` or `end`.
    pub(super) fn text(&mut self, class: &str, anchor: &str, (x, y): (f64, f64), text: &str) {
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    }

    /// The whole element.
    pub(super) fn finish(self) -> String {
        let Svg {
            width,
            height,
            title,
            description,
            body,
        } = self;
        format!(
            "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title>\n<desc>{description}</desc>\n{body}</svg>\n"
        )
    }
}

/// Text as HTML and SVG want it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The class with a peer's colour: the same in every plot. Plain forwarding is no rival, and grey.
pub(super) fn color(index: usize, peer: &str) -> String {
    match peer {
        super::super::peer::PLAIN => "plain".into(),
        _ => format!("p{}", index % 7),
    }
}

/// Labels at the right end of lines, moved apart so that none covers another: for each wanted
/// height the height that it gets, in order.
pub(super) fn apart(wanted: &[f64], distance: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut given = vec![0.0; wanted.len()];
    let mut next = top;
    for &index in &order {
        given[index] = wanted[index].max(next);
        next = given[index] + distance;
    }
    // What was pushed out at the bottom goes up again, and pushes the others.
    let mut last = bottom;
    for &index in order.iter().rev() {
        given[index] = given[index].min(last);
        last = given[index] - distance;
    }
    given
}

/// A round number of about a fifth of `most`: the distance of grid lines.
pub(super) fn step(most: f64) -> f64 {
    let rough = (most / 5.0).max(1e-12);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|factor| power * factor >= rough);
    power * factor.unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_moved_apart_and_stay_inside() {
        let given = apart(&[10.0, 12.0, 100.0, 99.0], 10.0, (5.0, 100.0));
        assert_eq!(given, [10.0, 20.0, 100.0, 90.0]);
        assert_eq!(apart(&[], 10.0, (0.0, 1.0)), Vec::<f64>::new());
    }

    #[test]
    fn grid_lines_stand_at_round_numbers() {
        for (most, wanted) in [(16.0, 5.0), (4.9, 1.0), (120.0, 25.0), (0.7, 0.2)] {
            assert!((step(most) - wanted).abs() < 1e-9, "{most}: {}", step(most));
        }
    }

    #[test]
    fn what_would_be_markup_is_text() {
        assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
    }
}
