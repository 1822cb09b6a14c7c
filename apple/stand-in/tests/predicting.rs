//! Predictions of `apple_frameworks`: every kind of value, in every way, on every system that has it.

mod support;

use std::{borrow::Cow, sync::Arc, thread};

use apple_frameworks::{
    Array, Backings, ElementType, Elements, Failure, Inputs, Memory, Model, PixelFormat, Pixels, Request, Units, Value,
};
use coreml_stand_in::StandIn;
use half::f16;

use self::support::{Way, array, echo, floats, load, nothing_lives, output, predict, request, run_with, ways};

/// Systems between which something that predictions use has come.
const SYSTEMS: [(i64, i64); 10] =
    [(11, 0), (12, 0), (12, 3), (13, 0), (14, 0), (14, 4), (15, 0), (15, 5), (26, 0), (27, 0)];

const UNITS: [Units; 4] = [Units::All, Units::CpuAndNeuralEngine, Units::CpuAndGpu, Units::CpuOnly];

/// A value comes back as it was given: on the Neural Engine, whose rows are padded, and elsewhere, in every way. Systems
/// before `since` do not have such values, and the code says so.
fn check_echo(value: Value<'static>, since: (i64, i64)) {
    let stand_in = StandIn::new();
    for system in SYSTEMS {
        stand_in.macos(system.0, system.1);
        if system < since {
            let failure = Inputs::new(&[("x", value.clone())]).err().expect("this system has no such values");
            assert_eq!(failure.domain, Failure::OURS);
            continue;
        }
        for units in UNITS {
            let mut model = echo(units);
            for way in ways() {
                let outputs = predict(&mut model, &[("x", value.clone())], way).unwrap();
                assert_eq!(output(&outputs, "x"), value, "{way:?} for {units:?} on macOS {system:?}");
            }
        }
    }
    nothing_lives(&stand_in);
}

#[test]
fn arrays_of_every_shape() {
    for shape in [&[7][..], &[2, 3], &[2, 3, 5], &[2, 1, 3, 1, 5], &[3, 1], &[2, 16], &[1], &[]] {
        let count = u8::try_from(shape.iter().product::<usize>()).unwrap();
        check_echo(floats(shape, (0..count).map(f32::from).collect::<Vec<_>>()), (11, 0));
    }
}

#[test]
fn arrays_without_elements_are_results_alone() {
    let stand_in = StandIn::new();
    for shape in [&[0][..], &[2, 0, 3], &[0, usize::MAX, usize::MAX]] {
        let message = format!("an array of shape {shape:?} has no elements");
        assert_eq!(Inputs::new(&[("x", floats(shape, []))]).err().map(|e| e.message).as_ref(), Some(&message));
        let backings = Backings::new(&[("x", shape, ElementType::Float32)]);
        assert_eq!(backings.err().map(|e| e.message), Some(message));
    }
    for (major, minor) in SYSTEMS {
        stand_in.macos(major, minor);
        let mut model = load(&support::op("non_zero/rank1"), Units::All).unwrap();
        for way in ways() {
            let outputs = predict(&mut model, &[("x", floats(&[5], [0.0; 5]))], way).unwrap();
            assert_eq!(output(&outputs, "out"), array(&[0, 1], Elements::Int32, Vec::new()));
        }
    }
    nothing_lives(&stand_in);
}

#[test]
fn arrays_of_every_type() {
    let halves = [1.5, -2.25, 6e-8, 65504.0, f32::INFINITY].map(f16::from_f32);
    check_echo(array(&[5, 1], Elements::Float16, halves.to_vec()), (12, 0));
    check_echo(array(&[1, 3], Elements::Float32, vec![f32::MIN, f32::MAX, 1e-45]), (11, 0));
    check_echo(array(&[3], Elements::Float64, vec![f64::MIN, f64::MAX, 5e-324]), (11, 0));
    check_echo(array(&[2, 2], Elements::Int32, vec![i32::MIN, -1, 0, i32::MAX]), (11, 0));
    check_echo(array(&[3, 1], Elements::Int8, vec![i8::MIN, 0, i8::MAX]), (26, 0));
}

#[test]
fn pictures_of_every_format() {
    let picture = |width: usize, height: usize, format, size: usize| {
        let bytes = (0..width * height * size).map(|n| n as u8).collect();
        Value::Pixels(Pixels { width, height, format, bytes: Cow::Owned(bytes) })
    };
    for (width, height) in [(1, 1), (5, 3), (16, 2), (64, 64)] {
        check_echo(picture(width, height, PixelFormat::Bgra8, 4), (11, 0));
        check_echo(picture(width, height, PixelFormat::Gray8, 1), (11, 0));
        check_echo(picture(width, height, PixelFormat::GrayFloat16, 2), (11, 0));
    }
}

#[test]
fn values_of_every_other_kind() {
    check_echo(Value::Int64(i64::MIN), (11, 0));
    check_echo(Value::Double(-0.1), (11, 0));
    check_echo(Value::String(Cow::Borrowed("")), (11, 0));
    check_echo(Value::String(Cow::Borrowed("naïve 猫 🐈")), (11, 0));
    let words = [("a", 0.5), ("b", -1e300), ("猫", 0.0)].map(|(key, value)| (key.to_owned(), value));
    check_echo(Value::StringDictionary(words.to_vec()), (11, 0));
    check_echo(Value::StringDictionary(Vec::new()), (11, 0));
    check_echo(Value::Int64Dictionary(vec![(i64::MIN, 0.25), (0, 1.0), (i64::MAX, 2.0)]), (11, 0));
    check_echo(Value::StringSequence(vec!["b".to_owned(), "a".to_owned(), "b".to_owned()]), (11, 0));
    check_echo(Value::StringSequence(Vec::new()), (11, 0));
    check_echo(Value::Int64Sequence(vec![3, i64::MIN, 3]), (11, 0));
}

/// A real model gives this output, in every way.
fn check_model(model: &std::path::Path, inputs: &[(&str, Value<'static>)], name: &str, expected: &Value<'static>) {
    let stand_in = StandIn::new();
    for units in UNITS {
        let mut model = load(model, units).unwrap();
        for way in ways() {
            let outputs = predict(&mut model, inputs, way).unwrap();
            assert_eq!(output(&outputs, name), *expected, "{way:?} for {units:?}");
        }
    }
    nothing_lives(&stand_in);
}

#[test]
fn models_run() {
    let small = |shape: &[usize]| -> Vec<f32> { (0..shape.iter().product()).map(|n: usize| n as f32 - 3.0).collect() };
    let values = small(&[2, 3, 4]);
    let x = floats(&[2, 3, 4], values.clone());
    check_model(&support::op("identity/fp32"), &[("x", x.clone())], "out", &x);
    let halves = small(&[3, 4]).into_iter().map(f16::from_f32).collect();
    let x = array(&[3, 4], Elements::Float16, halves);
    check_model(&support::op("cast/fp16_to_fp32"), &[("x", x.clone())], "out", &floats(&[3, 4], small(&[3, 4])));
    let from = floats(&[3, 4], small(&[3, 4]));
    check_model(&support::op("cast/fp32_to_fp16"), &[("x", from)], "out", &x);
    let whole = array(&[2, 3], Elements::Int32, vec![-3, -2, -1, 0, 1, 2]);
    check_model(&support::op("cast/int32_to_fp32"), &[("x", whole)], "out", &floats(&[2, 3], small(&[2, 3])));
}

#[test]
fn pictures_are_classified() {
    let black = || Pixels { width: 28, height: 28, format: PixelFormat::Gray8, bytes: Cow::Owned(vec![0; 28 * 28]) };
    let stand_in = StandIn::new();
    let mut model = load(&support::digits(), Units::All).unwrap();
    for way in ways() {
        let outputs = predict(&mut model, &[("image", Value::Pixels(black()))], way).unwrap();
        let Value::StringDictionary(probabilities) = output(&outputs, "classLabel_probs") else {
            panic!("another kind")
        };
        let labels: Vec<&str> = probabilities.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let most = probabilities.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(output(&outputs, "classLabel"), Value::String(Cow::Borrowed(&most.0)));
    }
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn a_batch_keeps_its_order() {
    let stand_in = StandIn::new();
    let mut model = echo(Units::All);
    let inputs = |n: f32| Inputs::new(&[("x", floats(&[2, 1], [n, -n]))]).unwrap();
    let batch: Vec<Inputs> = (0u8..50).map(|n| inputs(n.into())).collect();
    let outputs = model.predict_batch(&batch).unwrap();
    assert_eq!(outputs.len(), 50);
    for (n, outputs) in (0u8..).map(f32::from).zip(&outputs) {
        assert_eq!(output(outputs, "x"), floats(&[2, 1], [n, -n]));
    }
    assert_eq!(model.predict_batch(&[]).unwrap().len(), 0);
    drop((model, batch, outputs));
    nothing_lives(&stand_in);
}

#[test]
fn several_features_at_once() {
    let stand_in = StandIn::new();
    let mut model = echo(Units::All);
    let features = [("a", Value::Int64(1)), ("b", floats(&[1, 2], [1.0, 2.0])), ("ü", Value::Double(0.5))];
    let outputs = predict(&mut model, &features, Way::Sync).unwrap();
    for (name, value) in &features {
        assert_eq!(output(&outputs, name), *value);
    }
    let missing = outputs.read("c", |_| ()).unwrap_err();
    assert_eq!(
        (missing.domain.as_str(), missing.message.as_str()),
        (Failure::OURS, "the prediction has no output \"c\"")
    );
    drop((model, outputs));
    nothing_lives(&stand_in);
}

#[test]
fn wrong_numbers_of_elements_are_refused() {
    let stand_in = StandIn::new();
    let check = |value: Value<'_>| {
        let failure = Inputs::new(&[("x", value)]).err().expect("it is wrong");
        assert_eq!(failure.domain, Failure::OURS, "{failure}");
    };
    check(floats(&[2, 2], [0.0; 3]));
    check(floats(&[], []));
    check(floats(&[usize::MAX, 2], [0.0; 2]));
    let shared = Memory::Shared(Arc::new(vec![0f32; 3]), 4);
    check(Value::Array(Array { shape: Cow::Borrowed(&[4]), elements: Elements::Float32(shared) }));
    let pixels = |width, height, len| {
        let bytes = Cow::Owned(vec![0; len]);
        Value::Pixels(Pixels { width, height, format: PixelFormat::Bgra8, bytes })
    };
    check(pixels(2, 2, 15));
    check(pixels(0, 2, 0));
    check(pixels(usize::MAX, usize::MAX, 4));
    nothing_lives(&stand_in);
}

#[test]
fn shared_elements_are_not_copied() {
    let stand_in = StandIn::new();
    let values = Arc::new((0u8..12).map(f32::from).collect::<Vec<_>>());
    for way in ways() {
        let mut model = echo(Units::All);
        let elements = Elements::Float32(Memory::Shared(values.clone(), 6));
        let value = Value::Array(Array { shape: Cow::Borrowed(&[3, 2]), elements });
        let outputs = predict(&mut model, &[("x", value)], way).unwrap();
        assert_eq!(stand_in.input_address("x"), values.as_ptr().cast());
        assert_eq!(output(&outputs, "x"), floats(&[3, 2], &values[..6]));
        drop((model, outputs));
        nothing_lives(&stand_in);
        assert_eq!(Arc::strong_count(&values), 1, "{way:?}");
    }
}

#[test]
fn results_are_lent_where_rows_have_no_gaps() {
    let stand_in = StandIn::new();
    for (units, lent) in [(Units::CpuOnly, true), (Units::All, false)] {
        let outputs = predict(&mut echo(units), &[("x", floats(&[2, 2], [0.0; 4]))], Way::Sync).unwrap();
        let borrowed = outputs.read("x", |value| {
            let Value::Array(Array { elements: Elements::Float32(Memory::Borrowed(values)), .. }) = value else {
                panic!("another kind")
            };
            matches!(values, Cow::Borrowed(_))
        });
        assert_eq!(borrowed, Ok(lent), "{units:?}");
    }
    nothing_lives(&stand_in);
}

#[test]
fn results_come_in_the_callers_memory() {
    let stand_in = StandIn::new();
    for (major, minor) in SYSTEMS {
        stand_in.macos(major, minor);
        let mut model = echo(Units::All);
        let mut backings = Backings::new(&[("x", &[3, 2], ElementType::Float32)]).unwrap();
        for round in 0u8..3 {
            for way in ways().into_iter().filter(|&way| way != Way::Batch) {
                let before = stand_in.events().iter().filter(|event| *event == "backing").count();
                let x = floats(&[3, 2], [f32::from(round); 6]);
                let request = Request { backings: backings.take(), ..request(&[("x", x.clone())]).unwrap() };
                let outputs = support::run(&mut model, request, way).result.unwrap();
                assert_eq!(output(&outputs, "x"), x);
                backings = outputs.into_backings();
                let used = stand_in.events().iter().filter(|event| *event == "backing").count() - before;
                assert_eq!(used, usize::from(backings.is_some()), "{way:?} on macOS {major}.{minor}");
            }
        }
        assert!(backings.is_some(), "every supported macOS takes them");
    }
    nothing_lives(&stand_in);
}

#[test]
fn backings_of_every_type() {
    let stand_in = StandIn::new();
    let check = |kind, value: Value<'static>| {
        let mut model = echo(Units::All);
        let backings = Backings::new(&[("x", &[2, 1], kind)]).unwrap();
        let request = Request { backings, ..request(&[("x", value.clone())]).unwrap() };
        let outputs = model.predict(request).result.unwrap();
        assert_eq!(output(&outputs, "x"), value);
    };
    check(ElementType::Float16, array(&[2, 1], Elements::Float16, vec![f16::ONE, f16::NEG_ONE]));
    check(ElementType::Float32, array(&[2, 1], Elements::Float32, vec![1.0, -1.0]));
    check(ElementType::Float64, array(&[2, 1], Elements::Float64, vec![1.0, -1.0]));
    check(ElementType::Int32, array(&[2, 1], Elements::Int32, vec![1, -1]));
    check(ElementType::Int8, array(&[2, 1], Elements::Int8, vec![1, -1]));
    assert_eq!(stand_in.events().iter().filter(|event| *event == "backing").count(), 5);
    assert!(Backings::new(&[]).unwrap().is_none());
    let huge = Backings::new(&[("x", &[usize::MAX / 8], ElementType::Float64)]).err().unwrap();
    assert_eq!(huge.domain, Failure::OURS);
    nothing_lives(&stand_in);
}

#[test]
fn wrong_backings_are_core_mls_failure() {
    let stand_in = StandIn::new();
    let mut model = echo(Units::All);
    let backings = Backings::new(&[("x", &[3], ElementType::Float32)]).unwrap();
    let request = Request { backings, ..request(&[("x", floats(&[2], [0.0; 2]))]).unwrap() };
    let failure = model.predict(request).result.err().unwrap();
    assert_eq!((failure.domain.as_str(), failure.code), ("com.apple.CoreML", 0));
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn states_live_on() {
    let stand_in = StandIn::new();
    for (major, minor) in [(15, 0), (26, 0)] {
        stand_in.macos(major, minor);
        let mut model = echo(Units::All);
        let mut state = model.new_state().unwrap();
        let mut before = None;
        for round in 0u8..4 {
            let x = floats(&[2, 3], [f32::from(round); 6]);
            let way = if round % 2 == 0 { Way::Sync } else { Way::Async };
            let (outputs, after) = run_with(&mut model, &[("x", x.clone())], state, way);
            assert_eq!(output(&outputs.unwrap(), "x"), before.unwrap_or_else(|| x.clone()));
            state = after;
            let kept = state.read("x", support::owned_array).unwrap();
            assert_eq!(Value::Array(kept), x);
            before = Some(x);
        }
        drop((state, model));
        nothing_lives(&stand_in);
    }
}

#[test]
fn models_with_states_add_up() {
    let stand_in = StandIn::new();
    let mut model = load(&support::op("write_state/accumulate"), Units::All).unwrap();
    let x = array(&[2, 3], Elements::Float16, vec![f16::ONE; 6]);
    for way in [Way::Sync, Way::Async] {
        let mut state = model.new_state().unwrap();
        let zeros = state.read("total", support::owned_array).unwrap();
        assert_eq!(Value::Array(zeros), array(&[2, 3], Elements::Float16, vec![f16::ZERO; 6]));
        let mut first = None;
        for _ in 0..3 {
            let (outputs, after) = run_with(&mut model, &[("x", x.clone())], state, way);
            let out = output(&outputs.unwrap(), "out");
            assert_ne!(Some(&out), first.as_ref(), "the state is another one");
            first.get_or_insert(out);
            state = after;
        }
        let anew = model.new_state().unwrap();
        let (outputs, _) = run_with(&mut model, &[("x", x.clone())], anew, way);
        assert_eq!(Some(output(&outputs.unwrap(), "out")), first, "a new state begins anew");
    }
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn states_are_new() {
    let stand_in = StandIn::new();
    stand_in.macos(14, 7);
    let failure = echo(Units::All).new_state().err().unwrap();
    assert_eq!(failure.domain, Failure::OURS);
    assert!(failure.message.contains("before macOS 15"), "{failure}");
    nothing_lives(&stand_in);
}

#[test]
fn predictions_go_side_by_side() {
    let stand_in = StandIn::new();
    let model = echo(Units::All);
    let results: Vec<Value<'static>> = thread::scope(|scope| {
        let threads: Vec<_> = (0u8..8)
            .map(|n| {
                let model = &model;
                scope.spawn(move || {
                    let (send, receive) = std::sync::mpsc::channel();
                    let x = floats(&[1, 3], [f32::from(n); 3]);
                    let done = move |prediction: apple_frameworks::Prediction| send.send(prediction).unwrap();
                    model.predict_async(request(&[("x", x)]).unwrap(), done).unwrap();
                    output(&receive.recv().unwrap().result.unwrap(), "x")
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results, (0u8..8).map(|n| floats(&[1, 3], [f32::from(n); 3])).collect::<Vec<_>>());
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn models_go_from_thread_to_thread() {
    let stand_in = StandIn::new();
    let mut model = echo(Units::All);
    for n in 0u8..3 {
        model = thread::spawn(move || {
            let x = floats(&[1], [f32::from(n)]);
            let outputs = predict(&mut model, &[("x", x.clone())], Way::Sync).unwrap();
            assert_eq!(output(&outputs, "x"), x);
            model
        })
        .join()
        .unwrap();
    }
    drop(model);
    nothing_lives(&stand_in);
}

#[test]
fn there_is_no_asynchronous_prediction_before_macos_14() {
    let stand_in = StandIn::new();
    stand_in.macos(13, 6);
    assert!(!Model::is_async());
    let failure = echo(Units::All).predict_async(request(&[]).unwrap(), |_| ()).unwrap_err();
    assert_eq!(failure.domain, Failure::OURS);
    assert!(!stand_in.events().contains(&"predict".to_owned()));
    stand_in.macos(14, 0);
    assert!(Model::is_async());
    nothing_lives(&stand_in);
}
