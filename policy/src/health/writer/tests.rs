use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TAKES: TakesWrites = TakesWrites { max_lag: Duration::from_secs(60), voters: 3 };
const PROMOTE_AFTER: Duration = Duration::from_secs(120);

fn side(claim: Claim) -> Side {
    Side { is_down: false, is_asked: true, claim: Some(claim), lag: None, votes: 0 }
}

fn down() -> Side {
    Side { is_down: true, is_asked: true, claim: None, lag: None, votes: 0 }
}

fn lagging(side: Side, told: u64, behind: u64) -> Side {
    Side { lag: Some(LagWord { told: SECOND * told as u32, behind: SECOND * behind as u32 }), ..side }
}

/// A node of three that hears the others, of which so many find the primary lost.
fn pair(primary: Side, standby: Side, votes: usize) -> Pair {
    let fleet = Fleet { known: 3, heard: 2, affirming: 2 - votes, instead: None };
    Pair { primary: Side { votes, ..primary }, standby, fleet: Some(fleet) }
}

/// A node that has the primary for the one with the writes, since one second after its start.
fn settled() -> Writer {
    let mut writer = Writer::default();
    let all_well = pair(side(Claim::Primary), side(Claim::Replica), 0);
    assert!(writer.observe(SECOND, &all_well, PROMOTE_AFTER, &TAKES));
    assert_eq!((writer.holder(), writer.gate()), (Some(Holder::Primary), Gate::To(Holder::Primary)));
    writer
}

/// What a node makes of this, once the others have told it that they go by the same term.
fn after(writer: &mut Writer, seconds: u64, pair: &Pair) -> Gate {
    for _ in 0..2 {
        writer.observe(SECOND * seconds as u32, pair, PROMOTE_AFTER, &TAKES);
    }
    writer.gate()
}

const REFUSED: Gate = Gate::Nobody(Withheld::Lost);
const PROMOTED: Gate = Gate::To(Holder::Standby);

#[test]
fn each_condition_of_a_promotion_is_one() {
    let standby = lagging(side(Claim::Primary), 5, 60);
    let promoted = pair(down(), standby, 1);
    for (what, changed) in [
        ("the primary answers, and most of the others find it lost", pair(side(Claim::Primary), standby, 2)),
        ("one of three finds it lost", pair(down(), standby, 0)),
        ("the standby is a replica", pair(down(), lagging(side(Claim::Replica), 5, 0), 2)),
        ("the standby says nothing", pair(down(), lagging(side(Claim::Unsaid), 5, 0), 2)),
        ("its endpoints do not agree", pair(down(), lagging(side(Claim::Mixed), 5, 0), 2)),
        ("the standby is down", pair(down(), lagging(down(), 5, 0), 2)),
        ("it was too far behind", pair(down(), lagging(side(Claim::Primary), 5, 61), 2)),
        ("nobody knows how far behind it was", pair(down(), side(Claim::Primary), 2)),
        ("there is no fleet", Pair { fleet: None, ..promoted }),
    ] {
        let mut writer = settled();
        for second in [10, 130, 131, 1_000] {
            assert_ne!(after(&mut writer, second, &changed), PROMOTED, "{what}");
        }
        assert_eq!(writer.term(), Some(0), "{what}");
    }
    let mut writer = settled();
    assert_eq!(after(&mut writer, 10, &promoted), REFUSED);
    assert_eq!(after(&mut writer, 129, &promoted), REFUSED);
    assert_eq!((writer.lost_since(), promoted.votes(Holder::Primary)), (Some(SECOND * 10), 2));
    assert_eq!(after(&mut writer, 130, &promoted), PROMOTED);
    assert_eq!((writer.holder(), writer.term(), writer.lost_since()), (Some(Holder::Standby), Some(1), None));

    // The time begins anew with each break, of the node's own view or of the majority.
    for blip in [pair(side(Claim::Primary), standby, 1), pair(down(), standby, 0)] {
        let mut writer = settled();
        after(&mut writer, 10, &promoted);
        after(&mut writer, 129, &blip);
        assert_eq!(after(&mut writer, 130, &promoted), REFUSED);
        assert_eq!(after(&mut writer, 249, &promoted), REFUSED);
        assert_eq!(after(&mut writer, 250, &promoted), PROMOTED);
    }
    // A primary that steps down is lost as one that is down.
    let mut writer = settled();
    let stepped_down = pair(side(Claim::Replica), standby, 2);
    after(&mut writer, 10, &stepped_down);
    assert_eq!(after(&mut writer, 130, &stepped_down), PROMOTED);
}

#[test]
fn writes_go_back_when_both_say_so_or_the_standby_is_lost_for_as_long() {
    let promoted = || {
        let mut writer = settled();
        let lost = pair(down(), lagging(side(Claim::Primary), 5, 0), 1);
        after(&mut writer, 10, &lost);
        assert_eq!(after(&mut writer, 200, &lost), PROMOTED);
        writer
    };
    let with = |primary, standby: Side, votes| {
        let fleet = Fleet { known: 3, heard: 2, affirming: 2 - votes, instead: None };
        Pair { primary, standby: Side { votes, ..standby }, fleet: Some(fleet) }
    };
    let back = Gate::To(Holder::Primary);
    let unclaimed = Gate::Nobody(Withheld::Unclaimed);
    for (what, pair, gate, is_split) in [
        ("both say that they are primary", with(side(Claim::Primary), side(Claim::Primary), 0), PROMOTED, true),
        ("the old one is back as a replica", with(side(Claim::Replica), side(Claim::Primary), 0), PROMOTED, false),
        ("nobody does", with(side(Claim::Replica), side(Claim::Replica), 0), unclaimed, false),
        (
            "most of the others see that it has stepped down",
            with(side(Claim::Primary), side(Claim::Replica), 1),
            back,
            false,
        ),
        ("or says nothing more", with(side(Claim::Primary), side(Claim::Unsaid), 2), back, false),
        ("only this node does", with(side(Claim::Primary), side(Claim::Replica), 0), unclaimed, false),
        ("the primary says nothing", with(side(Claim::Unsaid), side(Claim::Replica), 0), unclaimed, false),
        ("the standby is down", with(side(Claim::Primary), down(), 2), REFUSED, false),
    ] {
        let mut writer = promoted();
        assert_eq!((after(&mut writer, 300, &pair), writer.is_split()), (gate, is_split), "{what}");
    }
    // What the old primary told before the standby had the writes says nothing of what it has seen of them.
    for (told, gate) in [(199, REFUSED), (201, back)] {
        let mut writer = promoted();
        let gone = with(lagging(side(Claim::Primary), told, 1), down(), 1);
        after(&mut writer, 300, &gone);
        assert_eq!(after(&mut writer, 420, &gone), gate, "told at {told} s");
    }
}

#[test]
fn who_is_not_affirmed_goes_by_what_both_say_and_begins_nothing() {
    let alone = |primary, standby| Pair {
        primary,
        standby,
        fleet: Some(Fleet { known: 3, heard: 0, affirming: 0, instead: None }),
    };
    let kept = Writer::keeps_for(PROMOTE_AFTER).as_millis() as u64;
    assert_eq!(kept, 58_500);
    let cut_off = Gate::Nobody(Withheld::CutOff);
    let primary = Gate::To(Holder::Primary);
    for (what, pair, gate) in [
        ("it reaches no standby", alone(side(Claim::Primary), down()), cut_off),
        ("two primaries", alone(side(Claim::Primary), side(Claim::Primary)), cut_off),
        ("one primary", alone(side(Claim::Primary), side(Claim::Replica)), primary),
        ("one that says nothing", alone(side(Claim::Unsaid), side(Claim::Replica)), primary),
        ("no primary", alone(side(Claim::Replica), side(Claim::Primary)), Gate::Nobody(Withheld::Unclaimed)),
    ] {
        let mut writer = settled();
        let first = after(&mut writer, 59, &pair);
        assert_eq!(first == primary, pair.primary.claim != Some(Claim::Replica), "{what}, for a while");
        assert_eq!(after(&mut writer, 60, &pair), gate, "{what}");
        assert_eq!(after(&mut writer, 10_000, &pair), gate, "{what}");
        assert_eq!(writer.term(), Some(0));
    }
    // One who hears a majority, half of which finds it lost, is not affirmed either.
    let mut writer = settled();
    let torn = Pair {
        fleet: Some(Fleet { known: 3, heard: 1, affirming: 0, instead: None }),
        ..pair(side(Claim::Primary), down(), 1)
    };
    assert_eq!(after(&mut writer, 59, &torn), primary);
    assert_eq!(after(&mut writer, 60, &torn), cut_off);
}

#[test]
fn who_starts_anew_asks_first() {
    let unasked = |side: Side| Side { is_asked: false, claim: None, is_down: false, ..side };
    let hears = |instead| Some(Fleet { known: 3, heard: 2, affirming: 2, instead });
    let primary = Gate::To(Holder::Primary);
    let (yes, no) = (side(Claim::Primary), side(Claim::Replica));
    for (what, primary_side, standby, fleet, gate, holder) in [
        ("nobody was asked", unasked(yes), unasked(no), hears(None), Gate::Nobody(Withheld::Starting), None),
        ("the standby is a replica", yes, no, hears(None), primary, Some(Holder::Primary)),
        ("both are primary", yes, yes, hears(None), Gate::Nobody(Withheld::Contested), None),
        ("others know", yes, yes, hears(Some(0)), primary, Some(Holder::Primary)),
        ("others know better", yes, yes, hears(Some(3)), PROMOTED, Some(Holder::Standby)),
        ("nobody else", unasked(yes), unasked(no), None, primary, Some(Holder::Primary)),
        ("the standby is gone, and the others know nothing", yes, down(), hears(None), primary, Some(Holder::Primary)),
        (
            "it is gone, and nobody is heard",
            yes,
            down(),
            Some(Fleet { known: 3, heard: 0, affirming: 0, instead: None }),
            Gate::Nobody(Withheld::CutOff),
            None,
        ),
    ] {
        let mut writer = Writer::default();
        let found = after(&mut writer, 1, &Pair { primary: primary_side, standby, fleet });
        assert_eq!((found, writer.holder()), (gate, holder), "{what}");
    }
}

#[test]
fn what_endpoints_say_is_put_together() {
    for (said, together) in [
        (vec![Claim::Primary, Claim::Unsaid, Claim::Primary], Claim::Primary),
        (vec![Claim::Replica, Claim::Primary], Claim::Mixed),
        (vec![Claim::Mixed, Claim::Primary], Claim::Mixed),
        (vec![Claim::Unsaid], Claim::Unsaid),
    ] {
        assert_eq!(said.iter().copied().reduce(Claim::and), Some(together), "{said:?}");
    }
    assert_eq!(PROMOTED.writes(Holder::Primary), Writes::Withheld(Withheld::Elsewhere));
    assert_eq!(
        (PROMOTED.writes(Holder::Standby), REFUSED.writes(Holder::Primary)),
        (Writes::Granted, Writes::Withheld(Withheld::Lost))
    );
}

#[test]
fn a_term_is_taken_over_from_a_majority_and_given_up_to_one() {
    let word = |term, primary_lost| Word { primary_lost, standby_lost: false, term };
    let sound = |term| word(Some(term), false);
    let (lost, new) = (word(Some(0), true), word(None, false));
    for (known, own, words, affirming, instead) in [
        (3, Some(0), vec![sound(0), sound(0)], 2, None),
        (3, Some(0), vec![sound(1), lost], 0, None),
        (3, Some(0), vec![sound(1), sound(1)], 0, Some(1)),
        (3, Some(0), vec![sound(1), sound(3)], 0, Some(1)),
        (5, Some(0), vec![sound(1), sound(1)], 0, None),
        // Those who find the primary lost are about to follow; those who do not have not.
        (3, Some(1), vec![lost, lost], 0, None),
        (3, Some(1), vec![sound(0), sound(0)], 0, Some(0)),
        (3, Some(1), vec![sound(0), sound(1)], 1, None),
        (3, None, vec![sound(1), new], 0, Some(1)),
        (3, None, vec![lost, new], 0, None),
        (3, None, vec![lost, lost], 0, Some(0)),
    ] {
        let fleet = Fleet::of(known, &words, own);
        assert_eq!(
            (fleet.heard, fleet.affirming, fleet.instead),
            (words.len(), affirming, instead),
            "{own:?} {words:?}"
        );
    }
}
