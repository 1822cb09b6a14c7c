//! Core ML calls that fail, hang, do not answer or answer too often, as `apple_frameworks` tells of them.

mod support;

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use apple_frameworks::{
    Backings, Configuration, ElementType, Failure, Inputs, Model, Prediction, Request, Units, Value, compile, plan,
};
use coreml_stand_in::{Call, StandIn};

use self::support::{Way, echo, floats, load, nothing_lives, output, predict, request, run, run_with, ways};

/// The codes of `MLModelError`, and one that is not known yet.
const CODES: [i64; 12] = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 4711];

fn x() -> Value<'static> {
    floats(&[2, 1], [1.0, 2.0])
}

/// A call that the stand-in lets fail gives the failure as it is, and the next one works.
fn check_fails(call: Call, run: impl Fn() -> Result<(), Failure>) {
    let stand_in = StandIn::new();
    let domains = ["com.apple.CoreML", "NSCocoaErrorDomain", "com.apple.appleneuralengine", "日本"];
    for (code, domain) in CODES.iter().flat_map(|code| domains.map(|domain| (*code, domain))) {
        stand_in.next_fails(call, domain, code, "It was – told so.");
        let expected = Failure { domain: domain.to_owned(), code, message: "It was – told so.".to_owned() };
        assert_eq!(run(), Err(expected), "{call:?}");
    }
    assert_eq!(run(), Ok(()));
    nothing_lives(&stand_in);
}

fn compile_and_remove(model: &Path) -> Result<(), Failure> {
    compile(model).map(|compiled| std::fs::remove_dir_all(compiled.parent().unwrap()).unwrap())
}

/// An echo that stays for other tests.
fn compiled_echo() -> PathBuf {
    let _model = echo(Units::CpuOnly);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("echo.mlmodelc")
}

#[test]
fn compiling_fails() {
    check_fails(Call::Compile, || compile_and_remove(&support::op("identity/int32")));
}

#[test]
fn compiling_fails_on_old_systems() {
    let stand_in = StandIn::new();
    stand_in.macos(12, 0);
    stand_in.next_fails(Call::Compile, "com.apple.CoreML", 6, "no");
    assert_eq!(compile(&support::op("identity/int32")).unwrap_err().code, 6);
    compile_and_remove(&support::op("identity/int32")).unwrap();
    nothing_lives(&stand_in);
}

#[test]
fn loading_fails() {
    let echo = compiled_echo();
    check_fails(Call::Load, || Model::load(&echo, &Configuration::default()).map(drop));
}

#[test]
fn predicting_fails() {
    for way in ways() {
        check_fails(Call::Predict, || predict(&mut echo(Units::All), &[("x", x())], way).map(drop));
    }
}

#[test]
fn predicting_with_a_state_fails_and_gives_it_back() {
    let stand_in = StandIn::new();
    for way in [Way::Sync, Way::Async] {
        let mut model = echo(Units::All);
        let mut state = model.new_state().unwrap();
        for code in CODES {
            stand_in.next_fails(Call::Predict, "com.apple.CoreML", code, "no");
            let (result, after) = run_with(&mut model, &[("x", x())], state, way);
            assert_eq!(result.err().map(|failure| failure.code), Some(code));
            state = after;
        }
        let (result, _) = run_with(&mut model, &[("x", x())], state, way);
        assert_eq!(output(&result.unwrap(), "x"), x());
    }
    nothing_lives(&stand_in);
}

#[test]
fn planning_fails() {
    let (stand_in, compiled) = (StandIn::new(), compile(&support::op("identity/int32")).unwrap());
    drop(stand_in);
    check_fails(Call::Plan, || plan::plan(&compiled, &Configuration::default()).map(drop));
    std::fs::remove_dir_all(compiled.parent().unwrap()).unwrap();
}

#[test]
fn what_core_ml_finds_itself() {
    let stand_in = StandIn::new();
    let check = |result: Result<(), Failure>, code: i64, words: &str| {
        let failure = result.unwrap_err();
        assert_eq!((failure.domain.as_str(), failure.code), ("com.apple.CoreML", code), "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    };
    let at = |path: &str| Model::load(Path::new(path), &Configuration::default()).map(drop);
    check(compile(Path::new("/nowhere.mlpackage")).map(drop), 3, "/nowhere.mlpackage");
    check(at("/nowhere.mlmodelc"), 3, "coremldata.bin");
    check(at(support::digits().to_str().unwrap()), 3, "coremldata.bin");
    for way in ways() {
        let mut model = load(&support::op("identity/fp32"), Units::All).unwrap();
        let mut predict = |name: &str, value: Value<'_>| predict(&mut model, &[(name, value)], way).map(drop);
        check(predict("x", floats(&[2, 3], [0.0; 6])), 1, "the provided shape 2 × 3 is not compatible");
        check(predict("x", Value::Double(1.0)), 1, "");
        check(predict("x", Value::StringSequence(Vec::new())), 1, "");
        check(predict("y", floats(&[2, 3, 4], [0.0; 24])), 1, "Feature x is required but not specified.");
    }
    let mut stateful = load(&support::op("write_state/accumulate"), Units::All).unwrap();
    check(predict(&mut stateful, &[("x", x())], Way::Sync).map(drop), 0, "state");
    drop(stateful);
    nothing_lives(&stand_in);
}

#[test]
fn a_batch_fails_as_one() {
    let stand_in = StandIn::new();
    let mut model = load(&support::op("identity/fp32"), Units::All).unwrap();
    let good = || Inputs::new(&[("x", floats(&[2, 3, 4], [0.0; 24]))]).unwrap();
    let bad = Inputs::new(&[("x", floats(&[1], [0.0]))]).unwrap();
    assert_eq!(model.predict_batch(&[good(), bad, good()]).err().unwrap().code, 1);
    assert_eq!(model.predict_batch(&[good(), good()]).unwrap().len(), 2);
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn silence_is_a_failure() {
    let stand_in = StandIn::new();
    let compiled = compiled_echo();
    let check = |result: Result<(), Failure>| assert_eq!(result.unwrap_err().domain, Failure::OURS);
    stand_in.next_is_silent(Call::Compile);
    check(compile(&support::op("identity/int32")).map(drop));
    stand_in.next_is_silent(Call::Plan);
    check(plan::plan(&compiled, &Configuration::default()).map(drop));
    let model = echo(Units::All);
    let (send, receive) = mpsc::channel();
    stand_in.next_is_silent(Call::Predict);
    model.predict_async(request(&[("x", x())]).unwrap(), move |prediction| send.send(prediction).unwrap()).unwrap();
    assert!(receive.recv().is_err(), "what was to be called is dropped");
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn a_second_answer_is_ignored() {
    let stand_in = StandIn::new();
    let model = echo(Units::All);
    let (send, receive) = mpsc::channel();
    stand_in.next_answers_twice(Call::Predict);
    model.predict_async(request(&[("x", x())]).unwrap(), move |prediction| send.send(prediction).unwrap()).unwrap();
    assert_eq!(output(&receive.recv().unwrap().result.unwrap(), "x"), x());
    assert!(receive.recv().is_err(), "it was called once");
    for call in [Call::Compile, Call::Plan] {
        stand_in.next_answers_twice(call);
    }
    let compiled = compile(&support::op("identity/int32")).unwrap();
    plan::plan(&compiled, &Configuration::default()).unwrap();
    std::fs::remove_dir_all(compiled.parent().unwrap()).unwrap();
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn a_prediction_that_never_returns_holds_what_it_uses() {
    let stand_in = StandIn::new();
    let mut model = echo(Units::All);
    let state = model.new_state().unwrap();
    let (send, receive) = mpsc::channel();
    stand_in.next_hangs(Call::Predict);
    let hanging = apple_frameworks::Request { state: Some(state), ..request(&[("x", x())]).unwrap() };
    model.predict_async(hanging, move |prediction: Prediction| send.send(prediction).unwrap()).unwrap();
    stand_in.wait_for_hanging(1);
    assert_eq!(receive.recv_timeout(Duration::from_millis(50)).err(), Some(RecvTimeoutError::Timeout));
    // Others go on meanwhile.
    let other = predict(&mut model, &[("x", floats(&[1], [9.0]))], Way::Async).unwrap();
    assert_eq!(output(&other, "x"), floats(&[1], [9.0]));
    drop((model, other));
    assert_eq!((stand_in.live("MLModel"), stand_in.live("MLState")), (1, 1), "the prediction has them");
    assert!(stand_in.live("MLMultiArray") >= 1);
    stand_in.let_go();
    let Prediction { result, state } = receive.recv().unwrap();
    assert_eq!(output(&result.unwrap(), "x"), x());
    drop(state);
    nothing_lives(&stand_in);
}

#[test]
fn who_waits_may_go() {
    let stand_in = StandIn::new();
    let model = echo(Units::All);
    let (send, receive) = mpsc::channel();
    stand_in.next_hangs(Call::Predict);
    let done = move |prediction: Prediction| drop(send.send(prediction));
    model.predict_async(request(&[("x", x())]).unwrap(), done).unwrap();
    stand_in.wait_for_hanging(1);
    drop((receive, model));
    stand_in.let_go();
    nothing_lives(&stand_in);
}

#[test]
fn a_panic_of_who_is_told_stays_there() {
    let stand_in = StandIn::new();
    let model = echo(Units::All);
    let (send, receive) = mpsc::channel::<()>();
    let done = move |_: Prediction| {
        let _dropped = &send;
        panic!("told")
    };
    model.predict_async(request(&[("x", x())]).unwrap(), done).unwrap();
    assert!(receive.recv().is_err(), "what was called is dropped");
    let outputs = predict(&mut echo(Units::All), &[("x", x())], Way::Sync).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| outputs.read("x", |_| panic!("read"))));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"read"));
    drop((model, outputs));
    nothing_lives(&stand_in);
}

/// What Core ML says is never null is null: objc2 panics, within a block of ours.
#[test]
fn a_panic_over_what_is_told_is_a_failure() {
    let stand_in = StandIn::new();
    let compiled = compile(&support::op("identity/int32")).unwrap();
    let check = |result: Result<(), Failure>| assert_eq!(result.unwrap_err().domain, Failure::OURS);
    stand_in.next_is_hollow(Call::Plan);
    check(plan::plan(&compiled, &Configuration::default()).map(drop));
    stand_in.next_is_hollow(Call::Compile);
    check(compile(&support::op("identity/int32")).map(drop));
    let mut model = echo(Units::All);
    let (send, receive) = mpsc::channel();
    stand_in.next_is_hollow(Call::Predict);
    model.predict_async(request(&[("x", x())]).unwrap(), move |prediction| send.send(prediction).unwrap()).unwrap();
    assert!(receive.recv().is_err(), "what was to be called is dropped");
    predict(&mut model, &[("x", x())], Way::Sync).unwrap();
    std::fs::remove_dir_all(compiled.parent().unwrap()).unwrap();
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn who_waits_has_the_model_alone() {
    let stand_in = StandIn::new();
    let mut model = echo(Units::All);
    let (send, receive) = mpsc::channel();
    stand_in.next_hangs(Call::Predict);
    model.predict_async(request(&[("x", x())]).unwrap(), move |prediction| send.send(prediction).unwrap()).unwrap();
    stand_in.wait_for_hanging(1);
    let backings = Backings::new(&[("x", &[2, 1], ElementType::Float32)]).unwrap();
    let state = Some(model.new_state().unwrap());
    let Prediction { result, state } = model.predict(Request { state, backings, ..request(&[("x", x())]).unwrap() });
    let check = |failure: Failure| assert!(failure.message.contains("under way"), "{failure}");
    check(result.err().unwrap());
    assert!(state.is_some(), "it comes back");
    check(model.predict_batch(&[Inputs::new(&[("x", x())]).unwrap()]).err().unwrap());
    stand_in.let_go();
    assert_eq!(output(&receive.recv().unwrap().result.unwrap(), "x"), x());
    for way in ways() {
        assert_eq!(output(&predict(&mut model, &[("x", x())], way).unwrap(), "x"), x());
    }
    drop((model, state));
    nothing_lives(&stand_in);
}

#[test]
fn the_state_of_another_model_is_refused() {
    let stand_in = StandIn::new();
    let (mut model, other) = (echo(Units::All), echo(Units::All));
    let of_other = || Request { state: Some(other.new_state().unwrap()), ..request(&[("x", x())]).unwrap() };
    let check = |failure: Failure| assert_eq!(failure.message, "the state is another model's");
    let Prediction { result, state } = model.predict(of_other());
    check(result.err().unwrap());
    assert!(state.is_some(), "it comes back");
    check(model.predict_async(of_other(), |_| ()).unwrap_err());
    assert!(!stand_in.events().contains(&"predict".to_owned()));
    for way in [Way::Sync, Way::Async] {
        let own = Request { state: Some(model.new_state().unwrap()), ..request(&[("x", x())]).unwrap() };
        assert!(run(&mut model, own, way).result.is_ok());
    }
    drop((model, other, state));
    nothing_lives(&stand_in);
}

#[test]
fn states_are_made_one_after_another() {
    let stand_in = StandIn::new();
    let model = echo(Units::All);
    stand_in.next_hangs(Call::NewState);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| model.new_state().map(drop));
        stand_in.wait_for_hanging(1);
        let second = scope.spawn(|| model.new_state().map(drop));
        std::thread::sleep(Duration::from_millis(50));
        let waited = !second.is_finished();
        stand_in.let_go();
        assert!(waited);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (Ok(()), Ok(())));
    });
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn states_that_are_not_there_are_not_read() {
    let stand_in = StandIn::new();
    let check = |model: Model, name: &str, words: &str| {
        let failure = model.new_state().unwrap().read(name, |_| ()).unwrap_err();
        assert_eq!(failure, Failure { domain: Failure::OURS.to_owned(), code: 0, message: words.to_owned() });
    };
    check(echo(Units::All), "y", "the model has no state \"y\"");
    check(load(&support::op("identity/fp32"), Units::All).unwrap(), "x", "the model has no state \"x\"");
    // The stand-in has nothing to lend before the first prediction.
    check(echo(Units::All), "x", "Core ML does not lend the state \"x\"");
    nothing_lives(&stand_in);
}
