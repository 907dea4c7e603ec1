use contract::record::Reason;

use super::*;
use crate::history::tests::{birth, bot, time};

fn entry(run: u64, from: u64) -> Entry {
    Entry::open(&bot(), &birth(time(1)), run, time(from))
}

fn ended(run: u64, from: u64, to: u64) -> Entry {
    let mut entry = entry(run, from);
    entry.end(time(to));
    entry.reason = Some(Reason::Exited);
    entry.exit = Some(1);
    entry
}

fn failed(from: u64, to: u64) -> Entry {
    let mut entry = ended(0, from, to);
    entry.reason = Some(Reason::StartFailed);
    entry.message = Some("no image".into());
    entry
}

/// What is kept when these are told one after the other, and how often something was written.
fn kept(told: &[Entry]) -> (Vec<Entry>, usize) {
    let mut recent = VecDeque::new();
    let mut writes = 0;
    for entry in told {
        let Some((place, entry)) = placed(&recent, entry) else {
            continue;
        };
        writes += 1;
        match place {
            Place::At(index) => recent[index] = entry.light(),
            Place::Behind(index) => recent.insert(index, entry.light()),
        }
    }
    (recent.into(), writes)
}

#[test]
fn a_run_is_written_when_it_is_seen_and_when_it_has_ended_and_no_more() {
    let told = [
        entry(1, 10),
        entry(1, 10),
        ended(1, 10, 20),
        ended(1, 10, 20),
        entry(1, 10),
        entry(2, 20),
    ];
    let (kept, writes) = kept(&told);
    assert_eq!(writes, 3);
    assert_eq!(kept, [ended(1, 10, 20), entry(2, 20)]);
}

#[test]
fn the_cause_that_was_known_first_is_not_lost_to_hearsay() {
    use crate::history::cause::Cause;
    let mut hearsay = ended(1, 10, 20);
    (hearsay.cause, hearsay.is_hearsay) = (Cause::Found, true);
    hearsay.container = None;
    let (kept, _) = kept(&[entry(1, 10), hearsay]);
    assert_eq!(kept, [ended(1, 10, 20)]);
}

#[test]
fn a_lost_run_is_one_record_though_its_start_was_not_written_to_the_millisecond() {
    let mut lost = ended(1, 15, 20);
    lost.reason = Some(Reason::Lost);
    let (kept, _) = kept(&[entry(1, 10), lost]);
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].started_at, kept[0].duration_ms),
        (time(10), Some(10_000))
    );
    let mut elsewhere = entry(1, 30);
    elsewhere.container = Some("c2".into());
    let (kept, _) = super::tests::kept(&[entry(1, 10), elsewhere]);
    assert_eq!(
        kept.len(),
        2,
        "another container's first run is another one"
    );
}

#[test]
fn a_run_whose_start_is_told_to_the_second_first_is_one_record() {
    let of = |mut entry: Entry| {
        entry.container = Some("c".into());
        entry
    };
    let told = [
        entry(1, 10),
        ended(1, 11, 20),
        ended(1, 11, 20),
        entry(2, 20),
    ];
    let (kept, _) = kept(&told.map(of));
    let known: Vec<_> = kept
        .iter()
        .map(|entry| (entry.run, entry.started_at))
        .collect();
    assert_eq!(known, [(1, time(10)), (2, time(20))]);
}

#[test]
fn starts_that_fail_in_one_way_are_one_record() {
    let mut told: Vec<Entry> = (1..=50).map(|n| failed(n * 10, n * 10 + 1)).collect();
    told.push(failed(500, 501));
    let (kept, _) = kept(&told);
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].count, kept[0].started_at), (50, time(10)));
    assert_eq!(kept[0].ended_at, Some(time(501)));

    told.push(ended(1, 600, 610));
    told.push(failed(700, 701));
    let (kept, _) = super::tests::kept(&told);
    assert_eq!(kept.len(), 3);
}

#[test]
fn what_of_a_run_is_saved_may_become_known_later() {
    use crate::history::entry::Saved;
    let saved = |all, at| Saved {
        outcome: None,
        generation: Some(1),
        ok_at: Some(time(at)),
        all,
        left_out: 0,
    };
    let with = |saved| Entry {
        saved: Some(saved),
        ..ended(1, 10, 20)
    };
    let told = [
        ended(1, 10, 20),
        with(saved(false, 15)),
        with(saved(true, 21)),
        with(saved(true, 81)),
    ];
    let (kept, writes) = kept(&told);
    assert_eq!((kept[0].saved.clone(), writes), (Some(saved(true, 21)), 3));
}

#[test]
fn what_is_older_than_what_is_remembered_was_written_then() {
    let mut recent: VecDeque<Entry> = (10..10 + RECENT as u64).map(|n| ended(n, n, n)).collect();
    assert_eq!(placed(&recent, &ended(3, 3, 3)), None);
    recent.pop_back();
    assert!(
        placed(&recent, &ended(3, 3, 3)).is_some(),
        "nothing is forgotten yet"
    );
}
