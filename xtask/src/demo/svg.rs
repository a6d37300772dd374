//! A little SVG: frames with axes, areas, lines, bars and intervals.

use std::fmt::Write as _;

/// A picture that grows.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// How a text stands to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The place is its start.
    Start,
    /// The place is its middle.
    Middle,
    /// The place is its end.
    End,
}

impl Svg {
    /// An empty picture.
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            body: String::new(),
        }
    }

    /// The picture as an element of a page; `label` says to everybody what it shows.
    pub fn finish(self, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            self.width,
            self.height,
            escape(label),
            self.body
        )
    }

    /// A text of a class of the page's style.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.add(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            escape(text)
        ));
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.add(&format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], color: &str, class: &str) {
        self.add(&format!(
            "<polyline points=\"{}\" class=\"{class}\" stroke=\"{color}\"/>",
            joined(points)
        ));
    }

    /// A filled area.
    pub fn area(&mut self, points: &[(f64, f64)], color: &str) {
        self.add(&format!("<polygon points=\"{}\" fill=\"{color}\"/>", joined(points)));
    }

    /// A rectangle between two corners.
    pub fn bar(&mut self, from: (f64, f64), to: (f64, f64), color: &str) {
        self.add(&format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>",
            from.0.min(to.0),
            from.1.min(to.1),
            (to.0 - from.0).abs(),
            (to.1 - from.1).abs()
        ));
    }

    /// A dot; hollow ones are for what never served.
    pub fn dot(&mut self, at: (f64, f64), color: &str, hollow: bool) {
        let fill = if hollow { "#fff" } else { color };
        self.add(&format!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"{fill}\" stroke=\"{color}\" stroke-width=\"2\"/>",
            at.0, at.1
        ));
    }

    fn add(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// The place of one plot in a picture, and the numbers that its borders mean.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Left and right border.
    pub x: (f64, f64),
    /// Upper and lower border.
    pub y: (f64, f64),
    /// Numbers at the left and right border.
    pub from_to: (f64, f64),
    /// Numbers at the lower and upper border.
    pub low_high: (f64, f64),
}

impl Frame {
    /// Where a pair of numbers lies.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (
            self.x.0 + part(x, self.from_to) * (self.x.1 - self.x.0),
            self.y.1 - part(y, self.low_high) * (self.y.1 - self.y.0),
        )
    }

    /// Grid and numbers of both axes.
    pub fn axes(&self, svg: &mut Svg, x_step: f64, y_step: f64) {
        self.y_axis(svg, y_step);
        self.x_axis(svg, x_step);
    }

    fn y_axis(&self, svg: &mut Svg, y_step: f64) {
        let mut y = (self.low_high.0 / y_step).ceil() * y_step;
        while y <= self.low_high.1 + 1e-9 {
            let (left, height) = self.at(self.from_to.0, y);
            svg.line(
                (left, height),
                (self.x.1, height),
                if y.abs() < 1e-9 { "zero" } else { "grid" },
            );
            svg.text(left - 8.0, height + 4.0, Anchor::End, "tick", &number(y));
            y += y_step;
        }
    }

    /// Numbers of the horizontal axis.
    pub fn x_axis(&self, svg: &mut Svg, x_step: f64) {
        let mut x = (self.from_to.0 / x_step).ceil() * x_step;
        while x <= self.from_to.1 + 1e-9 {
            let (place, _) = self.at(x, self.low_high.0);
            svg.line((place, self.y.1), (place, self.y.1 + 4.0), "grid");
            svg.text(place, self.y.1 + 18.0, Anchor::Middle, "tick", &number(x));
            x += x_step;
        }
    }
}

/// A number without needless digits.
pub fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    if text == "-0" { "0".to_owned() } else { text }
}

/// A text that no page takes for its own markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn joined(points: &[(f64, f64)]) -> String {
    let each = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
    each.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_maps_numbers_to_its_borders() {
        let frame = Frame {
            x: (100.0, 300.0),
            y: (10.0, 110.0),
            from_to: (0.0, 10.0),
            low_high: (-1.0, 1.0),
        };
        assert_eq!(frame.at(0.0, -1.0), (100.0, 110.0));
        assert_eq!(frame.at(5.0, 1.0), (200.0, 10.0));
    }

    #[test]
    fn markup_in_a_text_stays_a_text() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text(0.0, 0.0, Anchor::Start, "tick", "<script>");
        assert!(!svg.finish("a \"picture\"").contains("<script>"));
    }

    #[test]
    fn numbers_have_no_needless_digits() {
        assert_eq!([number(3.0), number(0.5), number(-0.0)], ["3", "0.5", "0"]);
    }
}
