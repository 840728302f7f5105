//! Bars, as SVG: one for each peer, with its value at the end, and a line at the floor's.

use std::fmt::Write as _;

/// A bar.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) text: String,
}

const NAMES: f64 = 170.0;
const BARS: f64 = 430.0;
const TEXTS: f64 = 120.0;
const ROW: f64 = 24.0;
const TOP: f64 = 40.0;

/// The peer whose bar stands out.
const OURS: &str = "sundown";

/// The bars, the longest as long as there is room.
pub(crate) fn bars(title: &str, bars: &[Bar], line_at: Option<f64>) -> String {
    let most = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (NAMES + BARS + TEXTS, TOP + ROW * bars.len() as f64 + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{title}</text>\n"
    );
    let mut push = |line: std::fmt::Arguments<'_>| {
        let written = svg.write_fmt(line);
        debug_assert!(written.is_ok(), "a String takes everything");
    };
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let length = BARS * bar.value.max(0.0) / most;
        let color = if bar.name == OURS {
            "#c2571a"
        } else {
            "#8fa3b5"
        };
        let (text_y, text_x) = (y + 14.0, NAMES + length + 6.0);
        let (names_end, bar_height) = (NAMES - 8.0, ROW - 6.0);
        push(format_args!(
            "<text x=\"{names_end}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{NAMES}\" y=\"{y}\" width=\"{length:.1}\" height=\"{bar_height}\" \
             fill=\"{color}\"/>\n\
             <text x=\"{text_x:.1}\" y=\"{text_y}\">{}</text>\n",
            bar.name, bar.text
        ));
    }
    if let Some(value) = line_at {
        let (x, end) = (NAMES + BARS * value / most, height - 10.0);
        push(format_args!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{end}\" stroke=\"#333333\" \
             stroke-dasharray=\"4 3\"/>\n"
        ));
    }
    svg.push_str("</svg>\n");
    svg
}
