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
        "Of {{all}} combinations, asynchronous I/O on one processor is better in {{wins}}, worse \
         in {{loses}}, and makes no difference in {{same}}: it reaches {{best}} the rate of \
         threads at best ({}) and {{worst}} at worst ({}).",
        name(best),
        name(worst)
    );
    let (wins, others) = rows(&measured);
    let lone_wins = measured
        .iter()
        .any(|(field, side)| field.depth == 1.0 && *side == Direction::AsyncWins);
    Answer::new(sentence.clone())
        .verdict(sentence)
        .verdict(rows_in_words(&wins, &others, lone_wins))
        .with(
            "all",
            Some(Estimate::exact(Unit::Count, measured.len() as f64)),
        )
        .with("wins", count(Direction::AsyncWins))
        .with("loses", count(Direction::AsyncLoses))
        .with("same", count(Direction::NoDifference))
        .with("best", best.and_then(|field| field.rate))
        .with("worst", worst.and_then(|field| field.rate))
}

/// The rows in which most fields with more than one reader are won, and the others.
fn rows<'a>(measured: &[(&'a Field, Direction)]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut rows: Vec<&str> = Vec::new();
    for (field, _) in measured {
        if !rows.contains(&field.from.as_str()) {
            rows.push(&field.from);
        }
    }
    rows.into_iter().partition(|row| {
        let deep = measured
            .iter()
            .filter(|(field, _)| field.from == *row && field.depth > 1.0);
        let sides: Vec<Direction> = deep.map(|(_, side)| *side).collect();
        let wins = sides
            .iter()
            .filter(|side| **side == Direction::AsyncWins)
            .count();
        2 * wins > sides.len()
    })
}

fn rows_in_words(wins: &[&str], others: &[&str], lone_wins: bool) -> String {
    let list = |rows: &[&str]| rows.join("; ");
    let several = match (wins.is_empty(), others.is_empty()) {
        (false, false) => format!(
            "With several readers, asynchronous I/O is better in most cases of: {}. It is not in \
             most cases of: {}",
            list(wins),
            list(others)
        ),
        (false, true) => {
            "With several readers, asynchronous I/O is better in most cases".to_owned()
        }
        (true, _) => format!(
            "Even with several readers, asynchronous I/O is better in few cases of each of: {}",
            list(others)
        ),
    };
    let lone = if lone_wins {
        "."
    } else {
        "; and a lone reader never gains, because nothing else can run on its thread."
    };
    several + lone
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
        assert!(rows.contains("cases of: disk. It") && rows.contains("cases of: page cache; and"));
    }
}
