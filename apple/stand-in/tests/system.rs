//! What `apple_frameworks` asks of Core ML and tells of the system: configurations, plans, devices, heat and power.

mod support;

use std::sync::mpsc;

use apple_frameworks::{
    Configuration, Device, Failure, Model, Units, compile, devices,
    plan::{Operation, Placement, Plan, plan},
    system::{self, ThermalState},
};
use coreml_stand_in::StandIn;

use self::support::{echo, nothing_lives};

#[test]
fn core_ml_is_configured() {
    let check = |macos: (i64, i64), configuration: Configuration, expected: Result<&str, &str>| {
        let stand_in = StandIn::new();
        // It makes the echo.
        drop(echo(Units::All));
        stand_in.macos(macos.0, macos.1);
        let echo = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("echo.mlmodelc");
        match (Model::load(&echo, &configuration), expected) {
            (Ok(_), Ok(expected)) => assert_eq!(stand_in.configuration(), expected, "on macOS {macos:?}"),
            (Err(failure), Err(words)) => {
                assert_eq!(failure.domain, Failure::OURS);
                assert!(failure.message.contains(words), "{failure}");
            }
            (result, _) => panic!("{result:?} on macOS {macos:?}, not {expected:?}"),
        }
        nothing_lives(&stand_in);
    };
    let all = Configuration {
        units: Units::CpuAndNeuralEngine,
        function: Some("main".to_owned()),
        display_name: Some("näme".to_owned()),
        low_precision_accumulation: true,
        infrequent_reshapes: true,
        fast_prediction: true,
    };
    let without_function = Configuration { function: None, ..all.clone() };
    check((26, 0), all.clone(), Ok("units=3 function=main name=näme low_precision=1 reshape=1 strategy=1"));
    check((15, 0), all.clone(), Ok("units=3 function=main name=näme low_precision=1 reshape=1 strategy=1"));
    check((14, 7), all, Err("macOS 15"));
    for (macos, expected) in [
        ((14, 4), "units=3 function=- name=näme low_precision=1 reshape=1 strategy=0"),
        ((14, 3), "units=3 function=- name=näme low_precision=1 reshape=0 strategy=0"),
        ((13, 0), "units=3 function=- name=näme low_precision=1 reshape=0 strategy=0"),
        ((12, 0), "units=2 function=- name=- low_precision=1 reshape=0 strategy=0"),
        ((11, 0), "units=2 function=- name=- low_precision=1 reshape=0 strategy=0"),
    ] {
        check(macos, without_function.clone(), Ok(expected));
    }
    for (units, expected) in [
        (Units::All, "units=2 function=- name=- low_precision=0 reshape=0 strategy=0"),
        (Units::CpuAndGpu, "units=1 function=- name=- low_precision=0 reshape=0 strategy=0"),
        (Units::CpuOnly, "units=0 function=- name=- low_precision=0 reshape=0 strategy=0"),
    ] {
        check((26, 0), Configuration { units, ..Configuration::default() }, Ok(expected));
    }
}

#[test]
fn devices_are_told() {
    let check = |macos: (i64, i64), cores: i64, expected: Option<&[Device]>| {
        let stand_in = StandIn::new();
        stand_in.macos(macos.0, macos.1);
        stand_in.neural_engine_cores(cores);
        let mut devices = devices();
        if let Some(devices) = &mut devices {
            devices.sort_by_key(|device| format!("{device:?}"));
        }
        assert_eq!(devices.as_deref(), expected);
        for class in ["MLCPUComputeDevice", "MLGPUComputeDevice", "MLNeuralEngineComputeDevice"] {
            assert_eq!(stand_in.live(class), 0);
        }
    };
    check((26, 0), 16, Some(&[Device::Cpu, Device::Gpu, Device::NeuralEngine { cores: 16 }]));
    check((14, 0), 32, Some(&[Device::Cpu, Device::Gpu, Device::NeuralEngine { cores: 32 }]));
    check((14, 0), 0, Some(&[Device::Cpu, Device::Gpu]));
    check((13, 6), 16, None);
    check((11, 0), 16, None);
}

fn planned(model: &std::path::Path, units: Units) -> Result<Plan, Failure> {
    let compiled = compile(model).unwrap();
    let plan = plan(&compiled, &Configuration { units, ..Configuration::default() });
    std::fs::remove_dir_all(compiled.parent().unwrap()).unwrap();
    plan
}

fn plans_do_not_live(stand_in: &StandIn) {
    nothing_lives(stand_in);
    stand_in.wait_for_none_of(&[
        "MLComputePlan",
        "MLComputePlanCost",
        "MLComputePlanDeviceUsage",
        "MLModelStructure",
        "MLModelStructureProgram",
        "MLModelStructureProgramOperation",
        "MLModelStructureNeuralNetworkLayer",
        "MLCPUComputeDevice",
    ]);
}

#[test]
fn programs_are_planned() {
    let stand_in = StandIn::new();
    let check = |units: Units, expected: &Placement| {
        let Plan::Program(operations) = planned(&support::digits(), units).unwrap() else { panic!("another kind") };
        let (constants, running): (Vec<&Operation>, Vec<_>) = operations.iter().partition(|o| o.operator == "const");
        assert_eq!((constants.len(), running.len()), (33, 15));
        assert!(constants.iter().all(|o| o.placement.is_none() && o.cost.is_none()));
        let cost: f64 = running.iter().map(|o| o.cost.unwrap()).sum();
        assert!((cost - 1.0).abs() < 1e-9, "{cost}");
        assert!(operations.iter().all(|o| o.function == "main" && o.block.is_empty() && !o.outputs.is_empty()));
        for operation in running {
            let cpu = Placement { preferred: Device::Cpu, supported: vec![Device::Cpu] };
            let expected = if operation.operator == "ios16.classify" { &cpu } else { expected };
            assert_eq!(operation.placement.as_ref(), Some(expected), "{}", operation.operator);
        }
        plans_do_not_live(&stand_in);
    };
    let engine = Device::NeuralEngine { cores: 16 };
    let placement = |supported: &[Device]| Placement { preferred: supported[0], supported: supported.to_vec() };
    check(Units::All, &placement(&[engine, Device::Gpu, Device::Cpu]));
    check(Units::CpuAndNeuralEngine, &placement(&[engine, Device::Cpu]));
    check(Units::CpuAndGpu, &placement(&[Device::Gpu, Device::Cpu]));
    check(Units::CpuOnly, &placement(&[Device::Cpu]));
}

#[test]
fn inner_blocks_are_planned() {
    let stand_in = StandIn::new();
    let folder = support::repository().join("crates/coreml-onnx/tests/ops/while_loop");
    let case = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let Plan::Program(operations) = planned(&case.join("model.mlpackage"), Units::All).unwrap() else {
        panic!("another kind")
    };
    let outer = operations.iter().position(|o| o.operator.ends_with(".while_loop")).unwrap();
    let inner = &operations[outer + 1];
    assert_eq!((operations[outer].block.len(), inner.block.len()), (0, 1));
    let step = inner.block[0];
    let place = operations.iter().filter(|o| o.block.is_empty()).position(|o| o.operator.ends_with(".while_loop"));
    assert_eq!((Some(step.operation), step.block), (place, 0));
    plans_do_not_live(&stand_in);
}

#[test]
fn networks_are_planned() {
    let stand_in = StandIn::new();
    let model = support::repository().join("crates/coreml-onnx/tests/layers/softmax");
    let case = std::fs::read_dir(model).unwrap().next().unwrap().unwrap().path();
    let Plan::NeuralNetwork(layers) = planned(&case.join("model.mlmodel"), Units::All).unwrap() else {
        panic!("another kind")
    };
    assert!(!layers.is_empty());
    assert!(layers.iter().all(|layer| !layer.name.is_empty() && layer.placement.is_some()), "{layers:?}");
    assert!(layers.iter().any(|layer| layer.kind == "softmax"), "{layers:?}");
    plans_do_not_live(&stand_in);
}

#[test]
fn there_are_no_plans_before_macos_14_4() {
    let stand_in = StandIn::new();
    stand_in.macos(14, 3);
    assert_eq!(planned(&support::digits(), Units::All).unwrap_err().domain, Failure::OURS);
    plans_do_not_live(&stand_in);
}

#[test]
fn heat_is_told() {
    let stand_in = StandIn::new();
    let (send, receive) = mpsc::channel();
    let observation = system::on_thermal_change(move || {
        let _ = send.send(system::thermal_state());
    });
    for (state, expected) in [
        (1, Some(ThermalState::Fair)),
        (2, Some(ThermalState::Serious)),
        (3, Some(ThermalState::Critical)),
        (4, None),
        (0, Some(ThermalState::Nominal)),
    ] {
        stand_in.thermal_state(state);
        assert_eq!(receive.recv(), Ok(expected));
        assert_eq!(system::thermal_state(), expected);
    }
    drop(observation);
    assert!(receive.recv().is_err(), "the callback is dropped with the observation");
    stand_in.thermal_state(1);
    stand_in.wait_for_none_of(&["block"]);
}

#[test]
fn low_power_is_told() {
    let stand_in = StandIn::new();
    let (send, receive) = mpsc::channel();
    let observation = system::on_low_power_change(move || {
        let _ = send.send(system::low_power_mode());
    });
    for on in [true, false] {
        stand_in.low_power(on);
        assert_eq!(receive.recv(), Ok(Some(on)));
    }
    drop(observation);
    stand_in.macos(11, 7);
    assert_eq!(system::low_power_mode(), None);
    stand_in.wait_for_none_of(&["block"]);
}
