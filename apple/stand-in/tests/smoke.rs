//! The stand-in itself, called through objc2 without the code that it is there to test: that it does what Core ML does,
//! and that it notices what Core ML does not allow.

use std::{
    cell::RefCell, ffi::c_void, fs, path::Path, path::PathBuf, ptr, ptr::NonNull, slice, sync::mpsc, thread,
    thread::ThreadId,
};

use block2::{RcBlock, StackBlock};
use coreml_stand_in::{Call, StandIn};
use objc2::{
    AllocAnyThread,
    rc::{Retained, autoreleasepool},
    runtime::{AnyObject, ProtocolObject},
};
use objc2_core_foundation::CFRetained;
use objc2_core_ml::{
    MLComputeUnits, MLDictionaryFeatureProvider, MLFeatureProvider, MLFeatureValue, MLModel, MLModelConfiguration,
    MLMultiArray, MLMultiArrayDataType, MLPredictionOptions,
};
use objc2_core_video::{
    CVPixelBuffer, CVPixelBufferCreate, CVPixelBufferGetBytesPerRow, CVPixelBufferLockBaseAddress,
    CVPixelBufferLockFlags, CVPixelBufferUnlockBaseAddress, kCVPixelFormatType_OneComponent8,
};
use objc2_foundation::{NSArray, NSDictionary, NSError, NSNumber, NSString, NSURL};

type Provider = ProtocolObject<dyn MLFeatureProvider>;

/// What an `NSError` tells: domain, code and description.
type Told = (String, isize, String);

/// Takes `x` of fp32 and shape [2, 3, 4], and gives `out`, which is the same.
fn identity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/coreml-onnx/tests/ops/identity/fp32/model.mlpackage")
}

fn url(path: &Path) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&NSString::from_str(path.to_str().unwrap()))
}

fn told(error: Retained<NSError>) -> Told {
    (error.domain().to_string(), error.code(), error.localizedDescription().to_string())
}

/// Compiles the identity.
fn compiled() -> PathBuf {
    // SAFETY: the path is that of a model.
    #[expect(deprecated, reason = "it waits")]
    let url = unsafe { MLModel::compileModelAtURL_error(&url(&identity())) }.unwrap();
    PathBuf::from(url.path().unwrap().to_string())
}

fn load(compiled: &Path, units: MLComputeUnits) -> Result<Retained<MLModel>, Told> {
    // SAFETY: `new` makes a valid object.
    let configuration = unsafe { MLModelConfiguration::new() };
    // SAFETY: it is one of the enumeration's values.
    unsafe { configuration.setComputeUnits(units) };
    // SAFETY: both arguments are valid.
    unsafe { MLModel::modelWithContentsOfURL_configuration_error(&url(compiled), &configuration) }.map_err(told)
}

fn numbers(values: &[usize]) -> Retained<NSArray<NSNumber>> {
    NSArray::from_retained_slice(&values.iter().map(|&value| NSNumber::new_usize(value)).collect::<Vec<_>>())
}

/// An array of 0, 1, 2 and so on.
fn array(shape: &[usize]) -> Retained<MLMultiArray> {
    let mut values: Vec<f32> = (0..shape.iter().product()).map(|n: usize| n as f32).collect();
    let pointer = NonNull::from(values.as_mut_slice()).cast();
    let deallocator = RcBlock::new(move |_: NonNull<c_void>| {
        let _owner = &values;
    });
    let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    // SAFETY: the block owns as many elements as the shape has.
    let array = unsafe {
        MLMultiArray::initWithDataPointer_shape_dataType_strides_deallocator_error(
            MLMultiArray::alloc(),
            pointer,
            &numbers(shape),
            MLMultiArrayDataType::Float32,
            &numbers(&strides),
            Some(&deallocator),
        )
    };
    array.unwrap()
}

fn provider(value: Retained<MLFeatureValue>) -> Retained<Provider> {
    let dictionary = NSDictionary::from_retained_objects(&[&*NSString::from_str("x")], &[Retained::into(value)]);
    let dictionary: Retained<NSDictionary<NSString, AnyObject>> = dictionary;
    let provider = MLDictionaryFeatureProvider::alloc();
    // SAFETY: the value is a feature value.
    let provider = unsafe { MLDictionaryFeatureProvider::initWithDictionary_error(provider, &dictionary) }.unwrap();
    ProtocolObject::from_retained(provider)
}

fn given(shape: &[usize]) -> Retained<Provider> {
    // SAFETY: the array is valid.
    provider(unsafe { MLFeatureValue::featureValueWithMultiArray(&array(shape)) })
}

fn predict(model: &MLModel, input: &Provider) -> Result<Retained<Provider>, Told> {
    // SAFETY: `new` makes a valid object.
    let options = unsafe { MLPredictionOptions::new() };
    // SAFETY: this thread alone has the model.
    unsafe { model.predictionFromFeatures_options_error(input, &options) }.map_err(told)
}

/// The strides of `out`, and its elements as they are in memory.
fn memory(outputs: &Provider) -> (Vec<usize>, Vec<f32>) {
    // SAFETY: any name may be asked for.
    let value = unsafe { outputs.featureValueForName(&NSString::from_str("out")) }.unwrap();
    // SAFETY: a plain property.
    let array = unsafe { value.multiArrayValue() }.unwrap();
    let memory = RefCell::new(Vec::new());
    let read = StackBlock::new(|bytes: NonNull<c_void>, len: isize| {
        // SAFETY: the block is lent so many bytes.
        let values = unsafe { slice::from_raw_parts(bytes.cast::<f32>().as_ptr(), len as usize / 4) };
        memory.borrow_mut().extend_from_slice(values);
    });
    // SAFETY: the block is called before this returns.
    unsafe { array.getBytesWithHandler(&read) };
    // SAFETY: a plain property.
    let strides = unsafe { array.strides() };
    (strides.iter().map(|stride| stride.as_usize()).collect(), memory.take())
}

/// A test within a pool, which must leave nothing alive.
fn test(run: impl FnOnce(&StandIn)) {
    let stand_in = StandIn::new();
    autoreleasepool(|_| run(&stand_in));
    let classes = [
        "MLModel",
        "MLModelConfiguration",
        "MLMultiArray",
        "MLFeatureValue",
        "MLDictionaryFeatureProvider",
        "MLPredictionOptions",
        "CVPixelBuffer",
        "block",
    ];
    stand_in.wait_for_none_of(&classes);
}

#[test]
fn rows_are_padded_on_the_neural_engine_alone() {
    test(|_| {
        let compiled = compiled();
        for (units, strides) in [
            (MLComputeUnits::All, [48, 16, 1]),
            (MLComputeUnits::CPUAndNeuralEngine, [48, 16, 1]),
            (MLComputeUnits::CPUAndGPU, [12, 4, 1]),
            (MLComputeUnits::CPUOnly, [12, 4, 1]),
        ] {
            let outputs = predict(&load(&compiled, units).unwrap(), &given(&[2, 3, 4])).unwrap();
            let (got, memory) = memory(&outputs);
            assert_eq!(got, strides);
            let element = |i: usize| memory[i / 12 * strides[0] + i / 4 % 3 * strides[1] + i % 4];
            assert_eq!((0..24).map(element).collect::<Vec<_>>(), (0u8..24).map(f32::from).collect::<Vec<_>>());
        }
    });
}

#[test]
fn errors_are_those_of_core_ml() {
    test(|_| {
        let check = |result: Result<(), Told>, code: isize, words: &str| {
            let (domain, got, description) = result.unwrap_err();
            assert_eq!((domain.as_str(), got), ("com.apple.CoreML", code), "{description}");
            assert!(description.contains(words), "{description}");
        };
        let units = MLComputeUnits::All;
        check(load(Path::new("/nowhere.mlmodelc"), units).map(drop), 3, "coremldata.bin");
        check(load(&identity(), units).map(drop), 3, "coremldata.bin");
        #[expect(deprecated, reason = "it waits")]
        // SAFETY: the path may be anything.
        let compile = |path: &Path| unsafe { MLModel::compileModelAtURL_error(&url(path)) }.map(drop).map_err(told);
        check(compile(Path::new("/nowhere.mlpackage")), 3, "/nowhere.mlpackage");
        let folder = tempfile::tempdir().unwrap();
        let damaged = folder.path().join("damaged.mlmodel");
        fs::write(&damaged, b"\x08\x04\x12\xff").unwrap();
        check(compile(&damaged), 3, "validator error");

        let model = load(&compiled(), units).unwrap();
        let predict = |input: &Provider| predict(&model, input).map(drop);
        check(predict(&given(&[2, 3])), 1, "For input feature 'x', the provided shape 2 × 3 is not compatible");
        // SAFETY: a plain value.
        check(predict(&provider(unsafe { MLFeatureValue::featureValueWithDouble(1.0) })), 1, "x");
        let nothing = MLDictionaryFeatureProvider::alloc();
        // SAFETY: there is no value.
        let nothing = unsafe { MLDictionaryFeatureProvider::initWithDictionary_error(nothing, &NSDictionary::new()) };
        check(predict(ProtocolObject::from_ref(&*nothing.unwrap())), 1, "Feature x is required but not specified.");
    });
}

#[test]
fn completion_comes_on_another_thread() {
    test(|stand_in| {
        let model = load(&compiled(), MLComputeUnits::CPUOnly).unwrap();
        let (send, receive) = mpsc::channel();
        let handler = RcBlock::new(move |outputs: *mut Provider, error: *mut NSError| {
            autoreleasepool(|_| {
                // SAFETY: the pointers are null or valid while the block runs.
                let result = (unsafe { outputs.as_ref() }.map(|outputs| memory(outputs).1), error.is_null());
                let _: Result<(), _> = send.send((thread::current().id(), result));
            });
        });
        let ask = |input: &Provider| {
            // SAFETY: `new` makes a valid object.
            let options = unsafe { MLPredictionOptions::new() };
            // SAFETY: the block owns what it uses.
            unsafe { model.predictionFromFeatures_options_completionHandler(input, &options, &handler) };
        };
        let receive = || -> (ThreadId, (Option<Vec<f32>>, bool)) { receive.recv().unwrap() };
        ask(&given(&[2, 3, 4]));
        let (thread, result) = receive();
        assert_ne!(thread, thread::current().id());
        assert_eq!(result, (Some((0u8..24).map(f32::from).collect()), true));
        ask(&given(&[1]));
        assert_eq!(receive().1, (None, false));
        stand_in.next_answers_twice(Call::Predict);
        ask(&given(&[2, 3, 4]));
        assert_eq!(receive().1, receive().1);
    });
}

#[test]
fn what_is_too_new_is_noticed() {
    let check = |major, minor, complaint: Option<&str>, run: &dyn Fn()| {
        test(|stand_in| {
            stand_in.macos(major, minor);
            run();
            let complaints = stand_in.complaints();
            assert_eq!(complaints.iter().map(String::as_str).collect::<Vec<_>>(), Vec::from_iter(complaint));
        });
    };
    // SAFETY: a plain property of the class.
    let devices: &dyn Fn() = &|| drop(unsafe { MLModel::availableComputeDevices() });
    check(14, 0, None, devices);
    check(13, 6, Some("MLModel +availableComputeDevices is used before macOS 14.0"), devices);
    let units: &dyn Fn() = &|| {
        // SAFETY: `new` makes a valid object.
        let configuration = unsafe { MLModelConfiguration::new() };
        // SAFETY: it is one of the enumeration's values.
        unsafe { configuration.setComputeUnits(MLComputeUnits::CPUAndNeuralEngine) };
    };
    check(13, 0, None, units);
    check(12, 7, Some("the units CPU and Neural Engine before macOS 13"), units);
    let hints: &dyn Fn() = &|| {
        // SAFETY: `new` makes a valid object.
        drop(unsafe { objc2_core_ml::MLOptimizationHints::new() });
    };
    check(14, 3, Some("MLOptimizationHints +new is used before macOS 14.4"), hints);
    // SAFETY: a plain property.
    let unlisted: &dyn Fn() = &|| drop(unsafe { given(&[1]).featureNames() });
    check(26, 0, Some("MLDictionaryFeatureProvider -featureNames is not in the table of selectors"), unlisted);
}

#[test]
fn wrong_locks_are_noticed() {
    let check = |complaint: Option<&str>, run: &dyn Fn(&CVPixelBuffer)| {
        test(|stand_in| {
            let mut buffer: *mut CVPixelBuffer = ptr::null_mut();
            let format = kCVPixelFormatType_OneComponent8;
            // SAFETY: the place is valid for one pointer.
            unsafe { CVPixelBufferCreate(None, 64, 2, format, None, NonNull::from(&mut buffer)) };
            // SAFETY: the buffer is new, and ours.
            let buffer = unsafe { CFRetained::from_raw(NonNull::new(buffer).unwrap()) };
            assert_eq!(CVPixelBufferGetBytesPerRow(&buffer), 128, "rows have gaps");
            run(&buffer);
            drop(buffer);
            let complaints = stand_in.complaints();
            assert_eq!(complaints.iter().map(String::as_str).collect::<Vec<_>>(), Vec::from_iter(complaint));
        });
    };
    let read_only = CVPixelBufferLockFlags::ReadOnly;
    // SAFETY: the buffer is valid.
    let lock = |buffer: &CVPixelBuffer| unsafe { CVPixelBufferLockBaseAddress(buffer, read_only) };
    // SAFETY: the buffer is valid.
    let unlock = |buffer: &CVPixelBuffer, flags| unsafe { CVPixelBufferUnlockBaseAddress(buffer, flags) };
    check(None, &|buffer| {
        lock(buffer);
        unlock(buffer, read_only);
    });
    check(Some("a pixel buffer is freed while it is locked"), &|buffer| {
        lock(buffer);
    });
    check(Some("a pixel buffer is unlocked as it was not locked"), &|buffer| {
        unlock(buffer, read_only);
    });
    check(Some("a pixel buffer is unlocked as it was not locked"), &|buffer| {
        lock(buffer);
        unlock(buffer, CVPixelBufferLockFlags(0));
        unlock(buffer, read_only);
    });
}

#[test]
fn two_at_a_time_are_noticed() {
    test(|stand_in| {
        let model = load(&compiled(), MLComputeUnits::CPUOnly).unwrap();
        // SAFETY: that the model is used by two threads is what the stand-in shall notice; it allows for it itself.
        let shared = unsafe { NonNull::from(&*model).as_ref() };
        struct Shared(&'static MLModel);
        // SAFETY: as above.
        unsafe impl Send for Shared {}
        stand_in.next_hangs(Call::Predict);
        let shared = Shared(shared);
        let first = thread::spawn(move || {
            let shared = shared;
            autoreleasepool(|_| drop(predict(shared.0, &given(&[2, 3, 4]))));
        });
        stand_in.wait_for_hanging(1);
        predict(&model, &given(&[2, 3, 4])).unwrap();
        stand_in.let_go();
        first.join().unwrap();
        assert_eq!(stand_in.complaints(), ["a model is used by two predictions at a time"]);
    });
}
