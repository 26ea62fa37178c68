use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TAKES: TakesWrites = TakesWrites { max_lag: Duration::from_secs(60), voters: 3 };
const PROMOTE_AFTER: Duration = Duration::from_secs(120);

fn side(claim: Claim) -> Side {
    Side { is_down: false, is_asked: true, claim: Some(claim), claimed_at: Duration::ZERO, lag: None, votes: 0 }
}

fn down() -> Side {
    Side { is_down: true, is_asked: true, claim: None, claimed_at: Duration::ZERO, lag: None, votes: 0 }
}

fn fleet(heard: usize, affirming: usize, instead: Option<u64>) -> Fleet {
    Fleet { known: 3, heard, affirming, instead, latest: instead, has_spoken: false, lag: None }
}

fn lagging(side: Side, told: u64, behind: u64) -> Side {
    Side { lag: Some(LagWord { told: SECOND * told as u32, behind: SECOND * behind as u32 }), ..side }
}

/// A node of three that hears the others, of which so many find the primary lost.
fn pair(primary: Side, standby: Side, votes: usize) -> Pair {
    Pair { primary: Side { votes, ..primary }, standby, fleet: Some(fleet(2, 2 - votes, None)) }
}

/// A node that has the primary for the one with the writes, since one second after its start.
fn settled() -> Writer {
    let mut writer = Writer::default();
    let all_well = pair(side(Claim::Primary), side(Claim::Replica), 0);
    assert!(writer.observe(SECOND, &all_well, PROMOTE_AFTER, &TAKES));
    assert_eq!((writer.holder(), writer.gate()), (Some(Holder::Primary), Gate::To(Holder::Primary)));
    writer
}

/// What a node makes of this, once the others have told it that they go by the same term. What regions say they say just
/// now, unless they said it after one second.
fn after(writer: &mut Writer, seconds: u64, pair: &Pair) -> Gate {
    let now = SECOND * seconds as u32;
    let fresh = |side: Side| Side { claimed_at: if side.claimed_at == SECOND { SECOND } else { now }, ..side };
    let pair = Pair { primary: fresh(pair.primary), standby: fresh(pair.standby), fleet: pair.fleet };
    for _ in 0..2 {
        writer.observe(now, &pair, PROMOTE_AFTER, &TAKES);
    }
    writer.gate()
}

const REFUSED: Gate = Gate::Nobody(Withheld::Lost);
const PROMOTED: Gate = Gate::To(Holder::Standby);

#[test]
fn each_condition_of_a_promotion_is_one() {
    // Five seconds before it was lost, and so 60 s behind in all.
    let standby = lagging(side(Claim::Primary), 5, 55);
    let promoted = pair(down(), standby, 1);
    for (what, changed) in [
        ("the primary answers, and most of the others find it lost", pair(side(Claim::Primary), standby, 2)),
        ("one of three finds it lost", pair(down(), standby, 0)),
        ("the standby is a replica", pair(down(), lagging(side(Claim::Replica), 5, 0), 2)),
        ("the standby says nothing", pair(down(), lagging(side(Claim::Unsaid), 5, 0), 2)),
        ("its endpoints do not agree", pair(down(), lagging(side(Claim::Mixed), 5, 0), 2)),
        ("the standby is down", pair(down(), lagging(down(), 5, 0), 2)),
        ("it was too far behind", pair(down(), lagging(side(Claim::Primary), 5, 56), 2)),
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
    // What the standby says in it counts anew.
    let told = lagging(side(Claim::Primary), 125, 0);
    for blip in [pair(side(Claim::Primary), told, 1), pair(down(), told, 0)] {
        let mut writer = settled();
        after(&mut writer, 10, &promoted);
        after(&mut writer, 129, &blip);
        assert_eq!(after(&mut writer, 130, &promoted), REFUSED);
        assert_eq!(after(&mut writer, 249, &promoted), REFUSED);
        assert_eq!(after(&mut writer, 250, &promoted), PROMOTED);
    }
    // Who has just become a primary is taken for one once nobody counts any more that it was none.
    let mut writer = settled();
    after(&mut writer, 10, &pair(down(), lagging(side(Claim::Replica), 5, 0), 2));
    assert_eq!(after(&mut writer, 200, &promoted), REFUSED);
    assert_eq!(after(&mut writer, 201, &promoted), REFUSED);
    assert_eq!(after(&mut writer, 202, &promoted), PROMOTED);
    // What it says once the primary is lost is no news of what the primary had written until then.
    let mut writer = settled();
    after(&mut writer, 10, &pair(down(), lagging(side(Claim::Replica), 5, 56), 2));
    after(&mut writer, 60, &pair(down(), lagging(side(Claim::Replica), 59, 0), 2));
    after(&mut writer, 100, &pair(down(), side(Claim::Primary), 2));
    assert_eq!(after(&mut writer, 200, &pair(down(), side(Claim::Primary), 2)), REFUSED);
    // A primary that steps down is lost as one that is down.
    let mut writer = settled();
    let stepped_down = pair(side(Claim::Replica), standby, 1);
    after(&mut writer, 10, &stepped_down);
    assert_eq!(after(&mut writer, 130, &stepped_down), PROMOTED);
    // And where no other node goes by the decision yet, nobody writes by it, though the primary is a replica: they may go back.
    let mut writer = settled();
    let alone = pair(side(Claim::Replica), standby, 2);
    after(&mut writer, 10, &alone);
    assert_eq!(after(&mut writer, 130, &alone), Gate::Nobody(Withheld::CutOff));
    assert_eq!(writer.term(), Some(1));
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
    let with = |primary, standby: Side, votes| Pair {
        primary,
        standby: Side { votes, ..standby },
        fleet: Some(fleet(2, 2 - votes, None)),
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
        ("it says nothing more", with(side(Claim::Primary), side(Claim::Unsaid), 0), unclaimed, false),
        (
            "it says nothing more, and is lost to others",
            with(side(Claim::Primary), side(Claim::Unsaid), 2),
            REFUSED,
            false,
        ),
        ("only this node does", with(side(Claim::Primary), side(Claim::Replica), 0), unclaimed, false),
        ("the primary says nothing", with(side(Claim::Unsaid), side(Claim::Replica), 0), unclaimed, false),
        ("the standby is down", with(side(Claim::Primary), down(), 2), REFUSED, false),
    ] {
        let mut writer = promoted();
        after(&mut writer, 298, &pair);
        assert_eq!((after(&mut writer, 300, &pair), writer.is_split()), (gate, is_split), "{what}");
    }
    // What the old primary told before the standby had the writes says nothing of what it has seen of them.
    for (told, gate) in [(199, REFUSED), (299, back)] {
        let mut writer = promoted();
        let gone = with(lagging(side(Claim::Primary), told, 1), down(), 1);
        after(&mut writer, 300, &gone);
        assert_eq!(after(&mut writer, 420, &gone), gate, "told at {told} s");
    }
}

#[test]
fn who_is_not_affirmed_goes_by_what_both_say_and_begins_nothing() {
    let alone = |primary, standby| Pair { primary, standby, fleet: Some(fleet(0, 0, None)) };
    let kept = Writer::keeps_for(PROMOTE_AFTER).as_millis() as u64;
    assert_eq!(kept, 58_500);
    let cut_off = Gate::Nobody(Withheld::CutOff);
    let primary = Gate::To(Holder::Primary);
    for (what, pair, gate) in [
        ("it reaches no standby", alone(side(Claim::Primary), down()), cut_off),
        ("two primaries", alone(side(Claim::Primary), side(Claim::Primary)), cut_off),
        ("one primary", alone(side(Claim::Primary), side(Claim::Replica)), primary),
        (
            "one that says nothing any more",
            alone(side(Claim::Unsaid), side(Claim::Replica)),
            Gate::Nobody(Withheld::Unclaimed),
        ),
        ("a standby that says nothing", alone(side(Claim::Primary), side(Claim::Unsaid)), cut_off),
        (
            "one that said a while ago that it is none",
            alone(side(Claim::Primary), Side { claimed_at: SECOND, ..side(Claim::Replica) }),
            cut_off,
        ),
        ("no primary", alone(side(Claim::Replica), side(Claim::Primary)), Gate::Nobody(Withheld::Unclaimed)),
    ] {
        let mut writer = settled();
        let first = after(&mut writer, 59, &pair);
        assert_eq!(first == primary, pair.primary.claim == Some(Claim::Primary), "{what}, for a while");
        assert_eq!(after(&mut writer, 60, &pair), gate, "{what}");
        assert_eq!(after(&mut writer, 10_000, &pair), gate, "{what}");
        assert_eq!(writer.term(), Some(0));
    }
    // A node that goes by the standby's term hands nothing back by itself.
    let mut writer = settled();
    let told = Pair { fleet: Some(fleet(2, 2, Some(1))), ..alone(side(Claim::Primary), side(Claim::Primary)) };
    assert_eq!(after(&mut writer, 2, &told), PROMOTED);
    for seconds in [100, 200] {
        let gate = after(&mut writer, seconds, &alone(side(Claim::Primary), side(Claim::Replica)));
        assert_eq!((gate, writer.term()), (Gate::Nobody(Withheld::Unclaimed), Some(1)));
    }
    // One who hears a majority, half of which finds it lost, is not affirmed either.
    let mut writer = settled();
    let torn = Pair { fleet: Some(fleet(1, 0, None)), ..pair(side(Claim::Primary), down(), 1) };
    assert_eq!(after(&mut writer, 59, &torn), primary);
    assert_eq!(after(&mut writer, 60, &torn), cut_off);
}

#[test]
fn who_starts_anew_asks_first() {
    let unasked = |side: Side| Side { is_asked: false, claim: None, is_down: false, ..side };
    let hears = |instead: Option<u64>| Some(fleet(2, if instead.is_some() { 2 } else { 0 }, instead));
    let starting = Gate::Nobody(Withheld::Starting);
    let contested = Gate::Nobody(Withheld::Contested);
    let cut_off = Gate::Nobody(Withheld::CutOff);
    let primary = Gate::To(Holder::Primary);
    let (yes, no) = (side(Claim::Primary), side(Claim::Replica));
    for (what, primary_side, standby, fleet, gate, holder) in [
        ("nobody was asked", unasked(yes), unasked(no), hears(None), Gate::Nobody(Withheld::Starting), None),
        ("the standby is a replica", yes, no, hears(None), primary, Some(Holder::Primary)),
        ("both are primary", yes, yes, hears(None), Gate::Nobody(Withheld::Contested), None),
        ("others know", yes, yes, hears(Some(0)), primary, Some(Holder::Primary)),
        ("others know better", yes, yes, hears(Some(3)), PROMOTED, Some(Holder::Standby)),
        ("nobody else, and nobody was asked", unasked(yes), unasked(no), None, starting, Some(Holder::Primary)),
        ("nobody else", yes, no, None, primary, Some(Holder::Primary)),
        ("nobody else, and the standby says nothing", yes, side(Claim::Unsaid), None, primary, Some(Holder::Primary)),
        ("nobody else, and two primaries", yes, yes, None, contested, Some(Holder::Primary)),
        ("nobody else, and half a primary", yes, side(Claim::Mixed), None, contested, Some(Holder::Primary)),
        ("the standby is gone, and the others know nothing", yes, down(), hears(None), cut_off, None),
        ("it is gone, and nobody is heard", yes, down(), Some(fleet(0, 0, None)), cut_off, None),
        ("it says nothing, and the primary does", yes, side(Claim::Unsaid), hears(None), cut_off, None),
        (
            "it says nothing, but others know that the primary did",
            side(Claim::Unsaid),
            no,
            Some(Fleet { has_spoken: true, ..fleet(2, 2, Some(0)) }),
            Gate::Nobody(Withheld::Unclaimed),
            Some(Holder::Primary),
        ),
        (
            "neither says anything",
            side(Claim::Unsaid),
            side(Claim::Unsaid),
            hears(None),
            cut_off,
            Some(Holder::Primary),
        ),
        (
            "a later decision is heard of, which nobody affirms",
            yes,
            no,
            Some(Fleet { latest: Some(1), ..fleet(2, 0, None) }),
            primary,
            None,
        ),
    ] {
        let mut writer = Writer::default();
        let found = after(&mut writer, 1, &Pair { primary: primary_side, standby, fleet });
        assert_eq!((found, writer.holder()), (gate, holder), "{what}");
    }
    // A standby that is gone, or says nothing, may be back: only in time, with a majority and no later decision, is it given up.
    let later = Some(Fleet { latest: Some(1), ..fleet(2, 0, None) });
    for (standby, fleet, term) in [
        (down(), hears(None), Some(0)),
        (side(Claim::Unsaid), hears(None), Some(0)),
        (down(), Some(fleet(0, 0, None)), None),
        (down(), later, None),
        (unasked(down()), hears(None), None),
    ] {
        let mut writer = Writer::default();
        let pair = Pair { primary: yes, standby, fleet };
        after(&mut writer, 1, &pair);
        after(&mut writer, 120, &pair);
        assert_eq!(writer.term(), None, "{pair:?}");
        after(&mut writer, 121, &pair);
        assert_eq!(writer.term(), term, "{pair:?}");
    }
    // One that answers, though it is not up yet, is not gone.
    let mut writer = Writer::default();
    for seconds in [1, 60, 121, 500] {
        let waking = Side { claim: Some(Claim::Primary).filter(|_| seconds > 1), ..down() };
        after(&mut writer, seconds, &Pair { primary: yes, standby: waking, fleet: hears(None) });
        assert_eq!(writer.term(), None);
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
    let word = |term, primary_lost| Word { primary_lost, standby_lost: false, term, has_spoken: false, lag: None };
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

#[test]
fn a_lag_is_of_whom_it_is_told_and_as_old_as_that() {
    let now = SECOND * 100;
    let heard = |of, behind: u64, age: u64| HeardLag {
        of,
        lag: LagWord::of_age(Duration::from_secs(behind), Duration::from_secs(age), now),
    };
    let word = |term, lag| Word { primary_lost: false, standby_lost: false, term, has_spoken: false, lag: Some(lag) };
    let words = [
        word(Some(0), heard(Holder::Standby, 3, 10)),
        word(None, heard(Holder::Standby, 9, 5)),
        word(Some(0), heard(Holder::Primary, 50, 1)),
        word(Some(1), heard(Holder::Primary, 2, 1)),
        word(Some(2), heard(Holder::Standby, 50, 1)),
    ];
    let lag = |own| Fleet::of(9, &words, own).lag.map(|lag| (lag.told.as_secs(), lag.behind.as_secs()));
    // The worst of the same term about the one that has not the writes.
    assert_eq!((lag(Some(0)), lag(None)), (Some((95, 9)), Some((95, 9))));
    assert_eq!((lag(Some(1)), lag(Some(2)), lag(Some(3))), (Some((99, 2)), Some((99, 50)), None));
    let worse = [
        words[0],
        words[1],
        word(Some(0), heard(Holder::Standby, 0, 14)),
        word(Some(0), heard(Holder::Standby, 0, 15)),
    ];
    assert_eq!(Fleet::of(9, &worse, Some(0)).lag.map(|lag| lag.told), Some(SECOND * 85));
    // What is older than this clock is further behind.
    assert_eq!(
        LagWord::of_age(SECOND, SECOND * 30, SECOND * 10),
        LagWord { told: Duration::ZERO, behind: SECOND * 21 }
    );

    // A node goes by what others have heard, and passes on only what it has itself.
    let told = LagWord { told: SECOND * 5, behind: SECOND };
    let lost =
        Pair { fleet: Some(Fleet { lag: Some(told), ..fleet(2, 1, None) }), ..pair(down(), side(Claim::Primary), 1) };
    let mut writer = settled();
    after(&mut writer, 10, &lost);
    assert_eq!((writer.lag(&lost), writer.heard_lag()), (Some(told), None));
    assert_eq!(after(&mut writer, 130, &lost), PROMOTED);
    let mut writer = settled();
    let own = pair(side(Claim::Primary), lagging(side(Claim::Replica), 9, 2), 0);
    after(&mut writer, 10, &own);
    let heard = HeardLag { of: Holder::Standby, lag: LagWord { told: SECOND * 9, behind: SECOND * 2 } };
    assert_eq!(writer.heard_lag(), Some(heard));
}
