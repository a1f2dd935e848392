//! What the map says: how many fields are won and lost, which ones most, and which rows.

use super::Field;
use crate::study::answer::{Answer, Better, Direction};
use crate::study::estimate::Estimate;
use crate::study::unit::Unit;

/// Which side is better in a field: the faster one; if both are as fast, the one that needs less
/// CPU time. `None` if the field was not measured.
fn side(field: &Field) -> Option<Direction> {
    let rate = Direction::of(&field.rate?, Better::Higher);
    Some(match rate {
        Direction::NoDifference => Direction::of(&field.cpu?, Better::Lower),
        decided => decided,
    })
}

/// The sentence of the map and its part of the verdict.
pub fn answer(fields: &[Field]) -> Answer {
    let measured: Vec<(&Field, Direction)> = fields
        .iter()
        .filter_map(|field| Some((field, side(field)?)))
        .collect();
    if measured.is_empty() {
        return Answer::new("Nothing of the map could be measured.");
    }
    let count = |wanted| {
        let many = measured.iter().filter(|(_, side)| *side == wanted).count();
        Some(Estimate::exact(Unit::Count, many as f64))
    };
    let by_rate = |field: &&Field| field.rate.map_or(1.0, |rate| rate.value);
    let all = || measured.iter().map(|(field, _)| *field);
    let best = all().max_by(|a, b| by_rate(a).total_cmp(&by_rate(b)));
    let worst = all().min_by(|a, b| by_rate(a).total_cmp(&by_rate(b)));
    let name = |field: Option<&Field>| field.map(Field::name).unwrap_or_default();
    let sentence = format!(
        "Of {{all}} combinations, asynchronous I/O on one processor is better in {{wins}} (faster, \
         or as fast for less processor time), worse in {{loses}}, and makes no difference in \
         {{same}}: it reaches {{best}} the rate of threads at best ({}) and {{worst}} at worst \
         ({}).",
        name(best),
        name(worst)
    );
    let answer = Answer::new(sentence.clone())
        .verdict(sentence)
        .with(
            "all",
            Some(Estimate::exact(Unit::Count, measured.len() as f64)),
        )
        .with("wins", count(Direction::AsyncWins))
        .with("loses", count(Direction::AsyncLoses))
        .with("same", count(Direction::NoDifference))
        .with("best", best.and_then(|field| field.rate))
        .with("worst", worst.and_then(|field| field.rate));
    by_row(answer, &measured)
}

/// The number of fields that are won and lost, and of all.
#[derive(Clone, Copy, Default)]
struct Score {
    wins: u32,
    loses: u32,
    all: u32,
}

impl Score {
    fn of(sides: impl Iterator<Item = Direction>) -> Score {
        sides.fold(Score::default(), |score, side| Score {
            wins: score.wins + u32::from(side == Direction::AsyncWins),
            loses: score.loses + u32::from(side == Direction::AsyncLoses),
            all: score.all + 1,
        })
    }

    /// The part of the fields that are won.
    fn share(self) -> f64 {
        f64::from(self.wins) / f64::from(self.all.max(1))
    }

    /// Adds its numbers to `answer`, under names that begin with `name`.
    fn add_to(self, answer: Answer, name: &str) -> Answer {
        let count = |many: u32| Some(Estimate::exact(Unit::Count, f64::from(many)));
        answer
            .with(&format!("{name}: wins"), count(self.wins))
            .with(&format!("{name}: loses"), count(self.loses))
            .with(&format!("{name}: all"), count(self.all))
    }
}

/// Adds to the verdict how many fields with several readers are won in each row, the best row
/// first, and what a lone reader gains.
fn by_row(mut answer: Answer, measured: &[(&Field, Direction)]) -> Answer {
    let mut rows: Vec<(&str, Score)> = Vec::new();
    for (field, _) in measured {
        let from = field.from.as_str();
        if !rows.iter().any(|(row, _)| *row == from) {
            let of_row = measured
                .iter()
                .filter(|(f, _)| f.from == from && f.depth > 1.0);
            rows.push((from, Score::of(of_row.map(|(_, side)| *side))));
        }
    }
    rows.retain(|(_, score)| score.all > 0);
    rows.sort_by(|a, b| b.1.share().total_cmp(&a.1.share()));
    let mut parts = Vec::new();
    for (row, score) in &rows {
        let loses = match score.loses {
            0 => String::new(),
            _ => format!(" (and loses in {{{row}: loses}})"),
        };
        parts.push(format!("{{{row}: wins}} of {{{row}: all}} on {row}{loses}"));
        answer = score.add_to(answer, row);
    }
    let mut text = match parts.is_empty() {
        true => String::new(),
        false => format!(
            "With several readers, asynchronous I/O wins in this many combinations: {}.",
            parts.join("; ")
        ),
    };
    let lone = measured.iter().filter(|(field, _)| field.depth == 1.0);
    let lone = Score::of(lone.map(|(_, side)| *side));
    if lone.all > 0 {
        text += " A lone reader wins in {lone: wins} of {lone: all} and loses in {lone: loses}";
        text += match lone.wins {
            0 => ", because nothing else can run on its thread.",
            _ => ".",
        };
        answer = lone.add_to(answer, "lone");
    }
    match text.is_empty() {
        true => answer,
        false => answer.verdict(text.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, answer, side};
    use crate::study::answer::Direction;
    use crate::study::estimate::Estimate;
    use crate::study::unit::Unit;

    fn field(from: &str, depth: f64, rate: f64, cpu: f64) -> Field {
        let ratio = |value| Some(Estimate::exact(Unit::Ratio, value));
        Field {
            from: from.to_owned(),
            size: 4096.0,
            depth,
            rate: ratio(rate),
            cpu: ratio(cpu),
            parked: None,
        }
    }

    #[test]
    fn the_faster_side_wins_and_then_the_cheaper_one() {
        assert_eq!(side(&field("", 8.0, 1.5, 2.0)), Some(Direction::AsyncWins));
        assert_eq!(side(&field("", 8.0, 1.0, 0.4)), Some(Direction::AsyncWins));
        assert_eq!(side(&field("", 8.0, 1.0, 1.4)), Some(Direction::AsyncLoses));
        assert_eq!(
            side(&field("", 8.0, 1.0, 1.0)),
            Some(Direction::NoDifference)
        );
    }

    #[test]
    fn losses_are_counted_and_named() {
        let fields = [
            field("page cache", 8.0, 0.8, 1.2),
            field("disk", 8.0, 3.0, 0.5),
            field("disk", 64.0, 2.0, 0.5),
        ];
        let answer = answer(&fields);
        let value = |name: &str| answer.findings[name].value;
        assert_eq!((value("wins"), value("loses")), (Some(2.0), Some(1.0)));
        assert_eq!((value("best"), value("worst")), (Some(3.0), Some(0.8)));
        assert!(answer.sentence.contains("(page cache, 4 KiB, depth 8)"));
        let rows = &answer.verdict[1];
        let order = "combinations: {disk: wins} of {disk: all} on disk; {page cache: wins} of \
                     {page cache: all} on page cache (and loses in {page cache: loses}).";
        assert!(rows.contains(order), "{rows}");
        assert_eq!(
            (value("disk: wins"), value("page cache: loses")),
            (Some(2.0), Some(1.0))
        );
    }
}
