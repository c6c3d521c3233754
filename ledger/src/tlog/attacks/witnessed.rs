//! What somebody can try against who demands witnesses: a policy and a host that frees nothing before.

use super::*;
use crate::ids::PublicKey;
use crate::tlog::checkpoint::cosign;
use crate::tlog::note::KeyKind;
use crate::wire::WitnessedResponse;

const NOON_S: u64 = 1_800_000_000;

fn key() -> LogKey {
    LogKey::generate().unwrap().0
}

fn witness_key(name: &str, key: PublicKey) -> NoteKey {
    NoteKey::new(name, KeyKind::CosignatureV1, key).unwrap()
}

/// A sink with a log, two witnesses, and a policy that demands both.
struct Scene {
    log: Log,
    witnesses: [LogKey; 2],
}

impl Scene {
    fn new() -> Self {
        Scene { log: Log::new(), witnesses: [key(), key()] }
    }

    fn named(&self, which: usize) -> String {
        format!("witness.example/{which}")
    }

    fn policy_text(&self, keys: [PublicKey; 2], quorum: usize) -> String {
        let [one, two] = [0, 1].map(|which| witness_key(&self.named(which), keys[which]));
        format!(
            "sink {}\nlog {}\nwitness w0 {one}\nwitness w1 {two}\ngroup all {quorum} w0 w1\nquorum all\n",
            self.log.sink.public(),
            log_key(self.log.key.public())
        )
    }

    fn policy(&self) -> Policy {
        self.policy_text([0, 1].map(|which| self.witnesses[which].public()), 2).parse().unwrap()
    }

    /// A checkpoint that some of the witnesses cosigned.
    fn cosigned(&self, size: u64, by: &[usize]) -> Note {
        let mut note = self.log.checkpoint(size).sign(&self.log.key);
        for which in by {
            cosign(&mut note, &self.named(*which), &self.witnesses[*which], NOON_S + *which as u64).unwrap();
        }
        note.to_string().parse().unwrap()
    }

    /// What an honest sink shows as witnessed beside its tree of `size`.
    fn shown(&self, note: &Note, witnessed: u64, size: u64, batches: &[u64]) -> WitnessedResponse {
        WitnessedResponse {
            checkpoint: note.to_string(),
            consistency: proof::consistency(&self.log.tree, witnessed, size).unwrap().unwrap_or_default(),
            batches: self.log.answer(0, witnessed, batches).batches,
        }
    }

    /// A host that keeps the tree of 20, waits for batch 7, and is shown this as witnessed.
    fn see(&self, note: &Note, size: u64) -> Result<usize, Alarm> {
        let shown = self.shown(note, size, 20, &[7]);
        self.log.kept(20).see_witnessed(&self.policy(), &shown, &self.log.awaited(&[7]))
    }
}

#[test]
fn what_both_witnesses_cosigned_is_witnessed_and_what_one_did_is_not() {
    let scene = Scene::new();
    assert_eq!(scene.see(&scene.cosigned(12, &[0, 1]), 12), Ok(1));
    assert_eq!(scene.see(&scene.cosigned(20, &[1, 0]), 20), Ok(1));
    assert_eq!(
        scene.policy().witnesses.cosigned(&scene.cosigned(12, &[1]))[0],
        policy::Cosigned { witness: scene.named(1), at_s: NOON_S + 1 }
    );
}

#[test]
fn a_checkpoint_that_too_few_witnesses_cosigned_frees_nothing() {
    let scene = Scene::new();
    let name = "a_checkpoint_that_too_few_witnesses_cosigned_frees_nothing";
    for by in [&[][..], &[0], &[1], &[0, 0]] {
        let note = scene.cosigned(12, by);
        let alarm = assert_alarm(name, &[Rule::Quorum], || scene.see(&note, 12));
        assert_eq!(alarm, Alarm::NotWitnessed);
    }
}

/// The line of the second witness, as `change` makes it, below a checkpoint of 12 that the first one cosigned.
fn with_line(scene: &Scene, change: impl Fn(&mut Note)) -> Note {
    let mut note = scene.cosigned(12, &[0]);
    change(&mut note);
    note.to_string().parse().unwrap()
}

#[test]
fn a_cosignature_by_a_key_that_is_not_in_the_policy_is_none() {
    let scene = Scene::new();
    let name = "a_cosignature_by_a_key_that_is_not_in_the_policy_is_none";
    // Under a name of its own nobody looks at it; so it is put below the name and id of the witness.
    let stranger = key();
    let under_its_own = with_line(&scene, |note| drop(cosign(note, "witness.example/1", &stranger, NOON_S)));
    assert_eq!(scene.see(&under_its_own, 12), Err(Alarm::NotWitnessed));
    let note = with_line(&scene, |note| {
        let mut other = note.clone();
        let theirs = cosign(&mut other, "witness.example/1", &stranger, NOON_S).unwrap();
        note.add(&witness_key("witness.example/1", scene.witnesses[1].public()), other.signature(&theirs));
    });
    assert_eq!(assert_alarm(name, &[Rule::Cosignature], || scene.see(&note, 12)), Alarm::NotWitnessed);
}

#[test]
fn a_cosignature_that_was_copied_from_an_older_checkpoint_is_none() {
    let scene = Scene::new();
    let name = "a_cosignature_that_was_copied_from_an_older_checkpoint_is_none";
    let second = witness_key("witness.example/1", scene.witnesses[1].public());
    let older = scene.cosigned(11, &[1]).signature(&second);
    let note = with_line(&scene, |note| note.add(&second, older.clone()));
    assert_eq!(assert_alarm(name, &[Rule::Cosignature], || scene.see(&note, 12)), Alarm::NotWitnessed);
}

#[test]
fn a_cosignature_whose_time_was_changed_is_none() {
    let scene = Scene::new();
    let second = witness_key("witness.example/1", scene.witnesses[1].public());
    let mut bytes = scene.cosigned(12, &[1]).signature(&second);
    bytes[7] ^= 1;
    let note = with_line(&scene, |note| note.add(&second, bytes.clone()));
    let name = "a_cosignature_whose_time_was_changed_is_none";
    assert_eq!(assert_alarm(name, &[Rule::Cosignature], || scene.see(&note, 12)), Alarm::NotWitnessed);
}

/// As [`assert_alarm`], for what the policy itself refuses.
fn assert_refused(name: &str, rule: Rule, text: &str, note: &Note) {
    let row = custody_tests::attacks::named(name);
    LEFT_OUT.with_borrow_mut(|left_out| left_out.push(rule));
    let unguarded = text.parse::<Policy>().map(|policy| policy.witnesses.are_met(note));
    LEFT_OUT.with_borrow_mut(Vec::clear);
    assert_eq!(unguarded, Ok(true), "the attack fails for another reason");
    let refused = text.parse::<Policy>().unwrap_err().to_string();
    assert!(refused.contains(row.reads), "{refused}");
}

#[test]
fn one_witness_under_two_names_is_one() {
    let scene = Scene::new();
    let name = "one_witness_under_two_names_is_one";
    let text = scene.policy_text([scene.witnesses[0].public(); 2], 2);
    let mut note = scene.cosigned(12, &[0]);
    cosign(&mut note, &scene.named(1), &scene.witnesses[0], NOON_S).unwrap();
    assert_refused(name, Rule::OneKey, &text, &note);
    // Nor does one that stands in two groups, or twice in one.
    let twice = text.replace("group all 2 w0 w1", "group all 2 w0 w0");
    for text in [twice, format!("{text}group more any w1\n")] {
        assert!(text.parse::<Policy>().is_err(), "{text}");
    }
    let keys = |which: [usize; 2]| {
        which.map(|which| witness_key(&scene.named(which), scene.witnesses[which].public()))
    };
    assert!(Witnesses::some_of(keys([0, 0]), 1).is_none());
    for (quorum, fits) in [(0, false), (1, true), (2, true), (3, false)] {
        assert_eq!(Witnesses::some_of(keys([0, 1]), quorum).is_some(), fits);
    }
}

#[test]
fn the_log_is_no_witness_of_itself() {
    let scene = Scene::new();
    let name = "the_log_is_no_witness_of_itself";
    let text = scene.policy_text([scene.log.key.public(), scene.witnesses[1].public()], 1);
    let mut note = scene.cosigned(12, &[]);
    cosign(&mut note, &scene.named(0), &scene.log.key, NOON_S).unwrap();
    assert_refused(name, Rule::OwnKey, &text, &note);
    // Where it is not named, its cosignature is that of a stranger, and its signature is none.
    assert!(!scene.policy().witnesses.are_met(&note));
    let key = log_key(scene.log.key.public());
    let named = text.replace(&witness_key(&scene.named(0), key.key()).to_string(), &key.to_string());
    assert!(named.parse::<Policy>().is_err(), "a key of a log is none of a witness");
}

/// Two pasts, each with its own witnesses: the host was shown one, and what is witnessed is of the other.
#[test]
fn a_witnessed_checkpoint_of_another_tree_is_an_alarm() {
    let scene = Scene::new();
    let name = "a_witnessed_checkpoint_of_another_tree_is_an_alarm";
    let (note, awaited, policy) = (scene.cosigned(12, &[0, 1]), scene.log.awaited(&[7]), scene.policy());
    let shown = scene.shown(&note, 12, 20, &[7]);
    let forked = scene.log.forked((0..20).map(|leaf| if leaf == 4 { 99 } else { leaf }));
    let kept = forked.kept(20);
    let attack = || kept.see_witnessed(&policy, &shown, &awaited);
    let alarm = assert_alarm(name, &[Rule::WitnessedFork], attack);
    assert_eq!(alarm, Alarm::Forked { held: 12, shown: 20 });
}

#[test]
fn a_batch_that_is_not_in_the_witnessed_tree_is_an_alarm() {
    let scene = Scene::new();
    let name = "a_batch_that_is_not_in_the_witnessed_tree_is_an_alarm";
    // The proof is that of the newest tree, which nobody has witnessed.
    let mut shown = scene.shown(&scene.cosigned(12, &[0, 1]), 12, 20, &[7]);
    shown.batches = scene.log.answer(0, 20, &[7]).batches;
    let attack = || scene.log.kept(20).see_witnessed(&scene.policy(), &shown, &scene.log.awaited(&[7]));
    assert_eq!(assert_alarm(name, &[Rule::Inclusion], attack), Alarm::NotInTree { batch: batch(7) });
}

#[test]
fn a_policy_reads_back_as_it_is_written_and_what_is_not_clear_is_refused() {
    let scene = Scene::new();
    let text = scene.policy_text([0, 1].map(|which| scene.witnesses[which].public()), 2);
    let policy: Policy = text.parse().unwrap();
    assert_eq!(policy.to_string(), text);
    let spaced =
        text.replace("witness w0 ", "\twitness  w0\t").replace("quorum all", "# who\n\n quorum all ");
    assert_eq!(spaced.parse(), Ok(policy.clone()));
    let with_url =
        text.replace("\nwitness w1 ", "\nwitness  w1 ").replacen("\ngroup", " https://w/\ngroup", 1);
    assert_eq!(with_url.parse(), Ok(policy));
    let without = |line: &str| {
        text.lines().filter(|one| !one.starts_with(line)).fold(String::new(), |all, one| all + one + "\n")
    };
    for line in ["sink", "log", "quorum", "witness w0", "group"] {
        assert!(without(line).parse::<Policy>().is_err(), "without {line}");
    }
    let changed = [
        ("group all 2 w0 w1", "group all 0 w0 w1"),
        ("group all 2 w0 w1", "group all 3 w0 w1"),
        ("group all 2 w0 w1", "group all +1 w0 w1"),
        ("group all 2 w0 w1", "group all most w0 w1"),
        ("group all 2 w0 w1", "group all any"),
        ("group all 2 w0 w1", "group all any w0 w9"),
        ("group all 2 w0 w1", "group all any w0 none"),
        ("group all 2 w0 w1", "group none any w0 w1"),
        ("group all 2 w0 w1", "group w0 any w0 w1"),
        ("quorum all", "quorum nobody"),
        ("quorum all", "quorum all w0"),
        ("quorum all\n", "quorum all\nquorum all\n"),
        ("quorum all\n", "quorum all\r\n"),
        ("quorum all\n", "quorum all\nnonsense\n"),
        ("quorum all\n", "quorum all\nwitness w9 x\n"),
    ];
    for (from, to) in changed {
        let changed = text.replace(from, to);
        assert!(changed != text && changed.parse::<Policy>().is_err(), "{to:?}");
    }
    assert!(!text.replace("quorum all", "quorum none").parse::<Policy>().unwrap().witnesses.demand_any());
}

#[test]
fn groups_count_as_their_lines_say() {
    let log = Log::new();
    let keys: Vec<LogKey> = (0..5).map(|_| key()).collect();
    let named = |which: usize| format!("w.example/{which}");
    let mut text = format!("sink {}\nlog {}\n", log.sink.public(), log_key(log.key.public()));
    for (which, key) in keys.iter().enumerate() {
        text += &format!("witness w{which} {}\n", witness_key(&named(which), key.public()));
    }
    text += "group x 2 w0 w1 w2\ngroup y any w3 w4\ngroup both all x y\nquorum both\n";
    let policy: Policy = text.parse().unwrap();
    for (by, met) in [
        (&[0, 1, 3][..], true),
        (&[1, 2, 4], true),
        (&[0, 1, 2], false),
        (&[0, 3, 4], false),
        (&[0, 1, 2, 3, 4], true),
        (&[], false),
    ] {
        let mut note = log.checkpoint(20).sign(&log.key);
        by.iter().for_each(|which| drop(cosign(&mut note, &named(*which), &keys[*which], NOON_S)));
        assert_eq!(policy.witnesses.are_met(&note), met, "{by:?}");
    }
}

#[test]
fn a_note_takes_over_only_what_holds_and_each_key_once() {
    let scene = Scene::new();
    let first = witness_key(&scene.named(0), scene.witnesses[0].public());
    let mut note = scene.cosigned(12, &[]);
    assert!(note.adopt(&scene.cosigned(11, &[0]), &first).is_none(), "it is of another checkpoint");
    assert!(note.adopt(&scene.cosigned(12, &[1]), &first).is_none(), "it is of another witness");
    for _ in 0..2 {
        assert_eq!(note.adopt(&scene.cosigned(12, &[0]), &first).unwrap().at_s, Some(NOON_S));
    }
    assert_eq!(note.to_string(), scene.cosigned(12, &[0]).to_string());
}
