//! Ten thousand predictions of each kind: no object stays alive, and memory does not grow.

mod support;

use std::{
    borrow::Cow,
    fs,
    sync::{Arc, mpsc},
};

use apple_frameworks::{
    Array, Backings, ElementType, Elements, Inputs, Memory, Model, PixelFormat, Pixels, Request, Units, Value,
};
use coreml_stand_in::{Call, StandIn};

use self::support::{Way, echo, floats, load, nothing_lives, output, predict, request, run, run_with};

const PREDICTIONS: usize = 10_000;

/// Bytes that memory may grow by after the first tenth of the predictions: 64 for each. The smallest object takes more.
const GROWTH: usize = 64 * PREDICTIONS;

/// Predicts many times.
fn soak(model: impl FnOnce() -> Model, mut one: impl FnMut(&StandIn, &mut Model, usize)) {
    let stand_in = StandIn::new();
    let (mut model, mut warm) = (model(), 0);
    for n in 0..PREDICTIONS {
        if n == PREDICTIONS / 10 {
            warm = resident_bytes();
        }
        one(&stand_in, &mut model, n);
    }
    let grown = resident_bytes().saturating_sub(warm);
    println!("memory grew by {grown} bytes");
    assert!(grown < GROWTH, "memory grew by {grown} bytes");
    drop(model);
    nothing_lives(&stand_in);
}

fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Large enough that its memory would be missed, and so that its rows are padded.
const SHAPE: [usize; 2] = [32, 8];

fn x(n: usize) -> Value<'static> {
    floats(&SHAPE, [n as f32; 256])
}

#[test]
fn one_after_another() {
    soak(
        || echo(Units::All),
        |_, model, n| {
            let outputs = predict(model, &[("x", x(n))], Way::Sync).unwrap();
            assert_eq!(output(&outputs, "x"), x(n));
        },
    );
}

#[test]
fn asynchronously() {
    soak(
        || echo(Units::All),
        |_, model, n| {
            let outputs = predict(model, &[("x", x(n))], Way::Async).unwrap();
            assert_eq!(output(&outputs, "x"), x(n));
        },
    );
}

#[test]
fn in_batches() {
    soak(
        || echo(Units::CpuOnly),
        |_, model, n| {
            let batch: Vec<Inputs> = (n..n + 3).map(|n| Inputs::new(&[("x", x(n))]).unwrap()).collect();
            let outputs = model.predict_batch(&batch).unwrap();
            assert_eq!(output(&outputs[2], "x"), x(n + 2));
        },
    );
}

#[test]
fn with_shared_inputs_and_backings() {
    let values = Arc::new(vec![1.5f32; 256]);
    let mut backings = None;
    soak(
        || echo(Units::All),
        |_, model, n| {
            let elements = Elements::Float32(Memory::Shared(values.clone(), 256));
            let value = Value::Array(Array { shape: Cow::Borrowed(&SHAPE), elements });
            let make = || Backings::new(&[("x", &SHAPE, ElementType::Float32)]).unwrap();
            let request = Request { backings: backings.take().or_else(make), ..request(&[("x", value)]).unwrap() };
            let outputs = run(model, request, if n % 2 == 0 { Way::Sync } else { Way::Async }).result.unwrap();
            backings = if n + 1 < PREDICTIONS { outputs.into_backings() } else { None };
        },
    );
    assert_eq!(Arc::strong_count(&values), 1);
}

#[test]
fn with_one_state_and_with_many() {
    let mut kept = None;
    soak(
        || echo(Units::All),
        |_, model, n| {
            let state = kept.take().unwrap_or_else(|| model.new_state().unwrap());
            let way = if n % 2 == 0 { Way::Sync } else { Way::Async };
            let (outputs, mut state) = run_with(model, &[("x", x(n))], state, way);
            assert!(outputs.is_ok());
            state.read("x", |array| assert_eq!(*array.shape, SHAPE)).unwrap();
            kept = (n % 10 > 0 && n + 1 < PREDICTIONS).then_some(state);
        },
    );
}

#[test]
fn with_every_other_kind() {
    let words = vec![("a".to_owned(), 0.5), ("b".to_owned(), 0.25)];
    let bytes = Cow::Owned(vec![7; 5 * 3 * 4]);
    let features = [
        ("double", Value::Double(0.5)),
        ("int64", Value::Int64(5)),
        ("pixels", Value::Pixels(Pixels { width: 5, height: 3, format: PixelFormat::Bgra8, bytes })),
        ("string", Value::String(Cow::Borrowed("naïve"))),
        ("strings", Value::StringSequence(vec!["c".to_owned()])),
        ("words", Value::StringDictionary(words)),
    ];
    soak(
        || echo(Units::All),
        |_, model, n| {
            let outputs = predict(model, &features, if n % 2 == 0 { Way::Sync } else { Way::Async }).unwrap();
            for (name, value) in &features {
                assert_eq!(output(&outputs, name), *value);
            }
        },
    );
}

#[test]
fn in_vain() {
    soak(
        || echo(Units::All),
        |stand_in, model, n| {
            match n % 3 {
                0 => stand_in.next_fails(Call::Predict, "com.apple.CoreML", 0, "no"),
                1 => stand_in.next_is_silent(Call::Predict),
                _ => drop(request(&[("x", floats(&[2], [0.0; 3]))]).err().unwrap()),
            }
            if n % 3 < 2 {
                let (send, receive) = mpsc::channel();
                model
                    .predict_async(request(&[("x", x(n))]).unwrap(), move |p| send.send(p.result.is_err()).unwrap())
                    .unwrap();
                assert_eq!(receive.recv().ok(), (n % 3 == 0).then_some(true));
            }
        },
    );
}

#[test]
fn of_a_model() {
    let values: Vec<f32> = (0u8..24).map(f32::from).collect();
    soak(
        || load(&support::op("identity/fp32"), Units::All).unwrap(),
        |_, model, n| {
            let x = floats(&[2, 3, 4], values.clone());
            let outputs = predict(model, &[("x", x.clone())], if n % 2 == 0 { Way::Sync } else { Way::Async }).unwrap();
            assert_eq!(output(&outputs, "out"), x);
        },
    );
}

/// Models are loaded and let go of.
#[test]
fn of_many_models() {
    soak(
        || echo(Units::All),
        |_, model, n| {
            if n % 10 == 0 {
                *model = echo(if n % 20 == 0 { Units::CpuOnly } else { Units::All });
            }
            predict(model, &[("x", x(n))], Way::Async).unwrap();
        },
    );
}
