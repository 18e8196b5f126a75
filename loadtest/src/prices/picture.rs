//! Draws curves as small charts.

use std::path::Path;

use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, EmptyElement, IntoDrawingArea, IntoLogRange, LineSeries,
    PathElement, PointSeries, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};

use crate::error::{Context, Result};

/// Width and height in pixels.
const SIZE: (u32, u32) = (640, 360);
/// Colours of the curves, distinguishable for the colour-blind.
const COLORS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];
/// Room above the highest point.
const HEADROOM: f64 = 1.25;

/// One curve of a chart.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// Its name in the legend.
    pub name: &'static str,
    /// Points, sorted by the first coordinate, which must be positive.
    pub points: Vec<(f64, f64)>,
}

/// Draws curves over a logarithmic x axis. The y axis begins at zero, so that a flat curve looks
/// flat.
///
/// # Errors
/// [`crate::error::Error::Io`] when the file cannot be written.
pub(super) fn draw(file: &Path, title: &str, axes: (&str, &str), curves: &[Curve]) -> Result<()> {
    let drawn = try_draw(file, title, axes, curves);
    drawn
        .map_err(|error| std::io::Error::other(error.to_string()))
        .context(&format!("drawing {}", file.display()))
}

fn try_draw(
    file: &Path,
    title: &str,
    axes: (&str, &str),
    curves: &[Curve],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).filter(|y| y.is_finite()).fold(0.0, f64::max);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(
            (left.min(right) * 0.9..right * 1.1).log_scale(),
            0.0..(top * HEADROOM).max(f64::MIN_POSITIVE),
        )?;
    chart
        .configure_mesh()
        .x_desc(axes.0)
        .y_desc(axes.1)
        .light_line_style(WHITE)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    for (curve, color) in curves.iter().zip(COLORS) {
        let points = || curve.points.iter().copied();
        chart
            .draw_series(LineSeries::new(points(), color.stroke_width(2)))?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(PointSeries::of_element(points(), 3, color, &|at, size, color| {
            EmptyElement::at(at) + Circle::new((0, 0), size, color.filled())
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::Directory;

    #[test]
    fn a_picture_shows_every_curve_by_its_name() {
        let directory = Directory::temporary("picture").unwrap();
        let file = directory.path.join("curve.svg");
        let curve = |name| Curve { name, points: vec![(10.0, 1.0), (7_000.0, 1.1)] };
        draw(&file, "A title", ("symbols", "us"), &[curve("one"), curve("two")]).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for part in ["<svg", "A title", "one", "two", "symbols"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
