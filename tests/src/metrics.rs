//! Prometheus' text format, as far as tests read it.

/// The series of one scrape.
#[derive(Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    pub(crate) fn new(text: String) -> Metrics {
        Metrics { text }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sum of all series of this name that have these labels, among others; `None` without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values: Vec<f64> = self.series().filter(|series| series.matches(name, labels)).map(|s| s.value).collect();
        if values.is_empty() { None } else { Some(values.iter().sum()) }
    }

    /// Every series of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Series<'a>> {
        self.series().filter(move |series| series.name == name)
    }

    fn series(&self) -> impl Iterator<Item = Series<'_>> {
        self.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}');
            let value = value.parse().unwrap_or_else(|_| panic!("no value: {line}"));
            Series { name, labels, value }
        })
    }
}

/// One series of a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Its name.
    pub name: &'a str,
    labels: &'a str,
    /// Its value.
    pub value: f64,
}

impl<'a> Series<'a> {
    /// A label's value; label values in the tests have no commas and no quotes.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
    }

    fn matches(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name && labels.iter().all(|(label, value)| self.label(label) == Some(value))
    }
}
