//! A distribution of latencies, as an HDR histogram: every value is kept to two digits, so that the
//! tail is as exact as the middle.

use hdrhistogram::Histogram;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

/// The percentiles that a report shows.
pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

impl Latency {
    /// An empty distribution.
    pub fn new() -> Latency {
        Latency(Histogram::new(2).expect("two digits are allowed"))
    }

    /// Adds `count` latencies of `ns` nanoseconds.
    pub fn add(&mut self, ns: u64, count: u64) {
        // A histogram that grows by itself holds every value.
        self.0.record_n(ns, count).expect("it fits");
    }

    /// Adds all latencies of `other`.
    pub fn merge(&mut self, other: &Latency) {
        self.0.add(&other.0).expect("both have two digits");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percent` per cent do not exceed; 100 is the maximum.
    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }
}

/// The form in a result file: the buckets are all there is to read, the percentiles help a person.
#[derive(Deserialize, Serialize)]
struct Form {
    unit: String,
    count: u64,
    /// Percent and nanoseconds.
    #[serde(default)]
    percentiles: Vec<(f64, u64)>,
    /// Nanoseconds and how many.
    buckets: Vec<(u64, u64)>,
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Form {
            unit: "ns".to_owned(),
            count: self.count(),
            percentiles: PERCENTILES.map(|p| (p, self.percentile(p))).to_vec(),
            buckets: self
                .0
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Latency, D::Error> {
        let form = Form::deserialize(deserializer)?;
        if form.unit != "ns" {
            return Err(D::Error::custom(format!("latencies in {:?}", form.unit)));
        }
        let mut latency = Latency::new();
        for (ns, count) in form.buckets {
            latency.add(ns, count);
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::Latency;

    #[test]
    fn a_distribution_survives_its_file() {
        let mut latency = Latency::new();
        for ns in 1..=1000 {
            latency.add(ns * 1000, 1);
        }
        latency.add(50_000_000, 1);
        let text = serde_json::to_string(&latency).expect("it is JSON");
        let again: Latency = serde_json::from_str(&text).expect("it is a distribution");
        for percent in super::PERCENTILES {
            assert_eq!(latency.percentile(percent), again.percentile(percent));
        }
        assert_eq!(again.count(), 1001);
        let half = again.percentile(50.0);
        assert!((495_000..=505_000).contains(&half), "{half}");
        assert!(again.percentile(100.0) >= 50_000_000);
    }
}
