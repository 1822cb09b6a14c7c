//! Models: compiling, loading and predicting.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    ptr::NonNull,
    sync::{Mutex, PoisonError, mpsc},
};

use block2::{RcBlock, StackBlock};
use objc2::{
    AllocAnyThread, Message,
    rc::{Retained, autoreleasepool},
    runtime::{AnyObject, ProtocolObject},
};
use objc2_core_ml::{
    MLArrayBatchProvider, MLBatchProvider, MLDictionaryFeatureProvider, MLFeatureProvider, MLModel, MLMultiArray,
    MLPredictionOptions, MLState,
};
use objc2_foundation::{NSArray, NSDictionary, NSError, NSString, NSURL};

use crate::{
    array::{self, Array, ElementType},
    configuration::Configuration,
    failure::Failure,
    lend::lend,
    os,
    value::{self, Value},
};

type Provider = ProtocolObject<dyn MLFeatureProvider>;

/// Compiles a `.mlmodel` or a `.mlpackage`, and says which folder `.mlmodelc` it is in: a temporary one that is the
/// caller's to move and to remove. Cost: the model is read, and waited for.
///
/// # Errors
/// What Core ML says of the model.
pub fn compile(model: &Path) -> Result<PathBuf, Failure> {
    autoreleasepool(|_| {
        let url = url(model)?;
        if !os::ASYNC_COMPILE.here() {
            #[expect(deprecated, reason = "older systems have nothing else")]
            // SAFETY: the call waits for its end; the model is read alone.
            let compiled = unsafe { MLModel::compileModelAtURL_error(&url) };
            return path(&*compiled.map_err(|e| Failure::from(&*e))?);
        }
        let (send, receive) = mpsc::channel();
        let handler = RcBlock::new(move |compiled: *mut NSURL, error: *mut NSError| {
            let result = autoreleasepool(|_| {
                // SAFETY: Core ML gives valid objects or null, for as long as the handler runs.
                path(answer(unsafe { compiled.as_ref() }, unsafe { error.as_ref() })?)
            });
            // Nobody waits where the caller's thread is gone.
            let _ = send.send(result);
        });
        // SAFETY: the handler owns what it uses, and may be called on any thread.
        unsafe { MLModel::compileModelAtURL_completionHandler(&url, &handler) };
        drop(handler);
        receive.recv().unwrap_or_else(|_| Err(Failure::ours("the compiler ended without an answer")))
    })
}

/// A loaded model.
///
/// Asynchronous predictions may run side by side; any other use is by one thread at a time, which `&mut` ensures.
pub struct Model {
    object: Retained<MLModel>,
}

// SAFETY: Core ML's models may be handed from thread to thread, as long as one uses them at a time; `&mut` sees to that.
unsafe impl Send for Model {}

// SAFETY: all that `&Model` allows is asynchronous prediction and new states, which Apple allows from any thread at any
// time ("Improve Core ML integration with async prediction", WWDC 2023).
unsafe impl Sync for Model {}

impl Model {
    /// Loads a folder `.mlmodelc`. Cost: the first load on a machine prepares the model for its units, which takes up to
    /// minutes for the Neural Engine; the system keeps the result, by the folder's path.
    ///
    /// # Errors
    /// What Core ML says of the model, and where this system lacks what the configuration asks for.
    pub fn load(compiled: &Path, configuration: &Configuration) -> Result<Model, Failure> {
        autoreleasepool(|_| {
            let (url, configuration) = (url(compiled)?, configuration.to_object()?);
            // SAFETY: the model copies the configuration.
            let object = unsafe { MLModel::modelWithContentsOfURL_configuration_error(&url, &configuration) };
            Ok(Model { object: object.map_err(|e| Failure::from(&*e))? })
        })
    }

    /// Whether predictions need no thread of their own.
    pub fn is_async() -> bool {
        os::ASYNC_PREDICTION.here()
    }

    /// Predicts on this thread, and waits for the end.
    pub fn predict(&mut self, mut request: Request) -> Prediction {
        autoreleasepool(|_| {
            let options = request.options();
            let (features, state) = (request.inputs.features(), request.state.as_mut());
            let result = match state {
                // SAFETY: the state is used by this prediction alone, since it is borrowed mutably.
                Some(State(state)) if os::STATE.here() => unsafe {
                    self.object.predictionFromFeatures_usingState_options_error(features, state, &options)
                },
                // SAFETY: the model is used by this thread alone, since it is borrowed mutably.
                _ => unsafe { self.object.predictionFromFeatures_options_error(features, &options) },
            };
            request.end(result.map_err(|e| Failure::from(&*e)))
        })
    }

    /// Predicts, and calls `done` from another thread. It is dropped uncalled where Core ML gives up without an answer.
    ///
    /// # Errors
    /// Where this system has no asynchronous prediction; [`Model::is_async`] tells.
    pub fn predict_async(
        &self,
        request: Request,
        done: impl FnOnce(Prediction) + Send + 'static,
    ) -> Result<(), Failure> {
        if !os::ASYNC_PREDICTION.here() {
            return Err(Failure::ours(format!("there is no asynchronous prediction before {}", os::ASYNC_PREDICTION)));
        }
        autoreleasepool(|_| {
            let options = request.options();
            let features = request.inputs.features.clone();
            let state = request.state.as_ref().map(|state| state.0.clone());
            let pending = Mutex::new(Some((request, done)));
            let handler = RcBlock::new(move |outputs: *mut Provider, error: *mut NSError| {
                // Handlers are called once; should one be called again, there is nothing left to do.
                let Some((request, done)) = pending.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                    return;
                };
                autoreleasepool(|_| {
                    // SAFETY: Core ML gives valid objects or null, for as long as the handler runs.
                    let answer = answer(unsafe { outputs.as_ref() }, unsafe { error.as_ref() });
                    let prediction = request.end(answer.map(|outputs| outputs.retain()));
                    // A panic must not pass through frames that are not Rust's. Whoever waits sees that `done` is gone.
                    let _ = catch_unwind(AssertUnwindSafe(|| done(prediction)));
                });
            });
            let features = ProtocolObject::from_ref(&*features);
            match state {
                // SAFETY: the request owns the state, so that no other prediction has it, and the handler owns what it
                // uses and may be called on any thread.
                Some(state) if os::STATE.here() => unsafe {
                    self.object.predictionFromFeatures_usingState_options_completionHandler(
                        features, &state, &options, &handler,
                    );
                },
                // SAFETY: the handler owns what it uses, and may be called on any thread.
                _ => unsafe {
                    self.object.predictionFromFeatures_options_completionHandler(features, &options, &handler);
                },
            }
            Ok(())
        })
    }

    /// Predicts for each of several inputs on this thread, and waits for the end of all.
    ///
    /// # Errors
    /// What Core ML says; then none has an answer.
    pub fn predict_batch(&mut self, batch: &[Inputs]) -> Result<Vec<Outputs>, Failure> {
        autoreleasepool(|_| {
            let providers: Vec<&Provider> = batch.iter().map(Inputs::features).collect();
            let array = NSArray::from_slice(&providers);
            // SAFETY: each element is a feature provider.
            let batch =
                unsafe { MLArrayBatchProvider::initWithFeatureProviderArray(MLArrayBatchProvider::alloc(), &array) };
            // SAFETY: `new` makes an object that is valid with its defaults.
            let options = unsafe { MLPredictionOptions::new() };
            let batch = ProtocolObject::from_ref(&*batch);
            // SAFETY: the model is used by this thread alone, since it is borrowed mutably.
            let outputs = unsafe { self.object.predictionsFromBatch_options_error(batch, &options) };
            let outputs = outputs.map_err(|e| Failure::from(&*e))?;
            // SAFETY: a plain property.
            let count = unsafe { outputs.count() };
            let of = |index| {
                // SAFETY: the index is below the count.
                let provider = unsafe { outputs.featuresAtIndex(index) };
                Outputs { provider, backings: None }
            };
            Ok((0..count).map(of).collect())
        })
    }

    /// A state for a new sequence of predictions, all zeros.
    ///
    /// # Errors
    /// Where this system has no states.
    pub fn new_state(&self) -> Result<State, Failure> {
        if !os::STATE.here() {
            return Err(Failure::ours(format!("models with states do not run before {}", os::STATE)));
        }
        // SAFETY: this system has states; a model without any gives an empty one.
        Ok(autoreleasepool(|_| State(unsafe { self.object.newState() })))
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").finish_non_exhaustive()
    }
}

/// What a prediction reads.
pub struct Inputs {
    features: Retained<MLDictionaryFeatureProvider>,
}

// SAFETY: the dictionary and its values do not change after they were made, and are used by one thread at a time.
unsafe impl Send for Inputs {}

impl Inputs {
    /// Features by name.
    ///
    /// # Errors
    /// Where a value is no feature, such as an array with another number of elements than its shape asks for.
    pub fn new(features: &[(&str, Value<'_>)]) -> Result<Inputs, Failure> {
        autoreleasepool(|_| {
            let names: Vec<_> = features.iter().map(|(name, _)| NSString::from_str(name)).collect();
            let names: Vec<&NSString> = names.iter().map(|name| &**name).collect();
            let values: Result<Vec<Retained<AnyObject>>, Failure> =
                features.iter().map(|(_, value)| Ok(value::to_object(value)?.into())).collect();
            let dictionary = NSDictionary::from_retained_objects(&names, &values?);
            let provider = MLDictionaryFeatureProvider::alloc();
            // SAFETY: each value is a feature value.
            let features = unsafe { MLDictionaryFeatureProvider::initWithDictionary_error(provider, &dictionary) };
            Ok(Inputs { features: features.map_err(|e| Failure::from(&*e))? })
        })
    }

    fn features(&self) -> &Provider {
        ProtocolObject::from_ref(&*self.features)
    }
}

/// What a prediction gives.
pub struct Outputs {
    provider: Retained<Provider>,
    /// Held while outputs may be in their memory.
    backings: Option<Backings>,
}

// SAFETY: a result belongs to whoever asked for it; Core ML does not touch it again, and one thread at a time reads it.
unsafe impl Send for Outputs {}

impl Outputs {
    /// Lends an output to `take`. Elements of arrays and pixels are copied only where their rows have gaps.
    ///
    /// # Errors
    /// Where there is no such output, or it is of a kind that is not known here.
    pub fn read<R>(&self, name: &str, take: impl FnOnce(Value<'_>) -> R) -> Result<R, Failure> {
        autoreleasepool(|_| {
            // SAFETY: any name may be asked for.
            let value = unsafe { self.provider.featureValueForName(&NSString::from_str(name)) };
            let value = value.ok_or_else(|| Failure::ours(format!("the prediction has no output {name:?}")))?;
            value::read(&value, take)
        })
    }

    /// The arrays that the outputs were written to, to be used again.
    pub fn into_backings(self) -> Option<Backings> {
        self.backings
    }
}

/// What a model remembers between predictions. A prediction changes it.
pub struct State(Retained<MLState>);

// SAFETY: Apple declares the class as sendable; one prediction at a time has it, since requests own it.
unsafe impl Send for State {}

impl State {
    /// Lends the array of a state to `take`.
    ///
    /// # Errors
    /// Where its elements are of an unknown type.
    pub fn read<R>(&mut self, name: &str, take: impl FnOnce(Array<'_>) -> R) -> Result<R, Failure> {
        autoreleasepool(|_| {
            let taken = lend(
                |array: NonNull<MLMultiArray>| {
                    // SAFETY: Core ML lends the array until the handler returns.
                    array::read(unsafe { array.as_ref() }, take)
                },
                |take| {
                    let handler = StackBlock::new(take);
                    // SAFETY: the handler is called before this returns, if at all; the system has states, since there
                    // is one, and no prediction has it, since it is borrowed mutably.
                    unsafe { self.0.getMultiArrayForStateNamed_handler(&NSString::from_str(name), &handler) };
                },
            );
            taken.ok_or_else(|| Failure::ours(format!("the model has no state {name:?}")))?
        })
    }
}

/// Arrays that Core ML writes outputs to, so that it makes none. Used again once a prediction has given them back.
pub struct Backings {
    arrays: Retained<NSDictionary<NSString, AnyObject>>,
}

// SAFETY: the arrays belong to one prediction or one thread at a time, since requests own them.
unsafe impl Send for Backings {}

impl Backings {
    /// An array for each output of a fixed shape; `None` where this system does not use them.
    ///
    /// # Errors
    /// Where there is no memory for one.
    pub fn new(outputs: &[(&str, &[usize], ElementType)]) -> Result<Option<Backings>, Failure> {
        if !os::OUTPUT_BACKINGS.here() || outputs.is_empty() {
            return Ok(None);
        }
        autoreleasepool(|_| {
            let names: Vec<_> = outputs.iter().map(|(name, ..)| NSString::from_str(name)).collect();
            let names: Vec<&NSString> = names.iter().map(|name| &**name).collect();
            let arrays: Result<Vec<Retained<AnyObject>>, Failure> =
                outputs.iter().map(|(_, shape, kind)| Ok(array::zeros(shape, *kind)?.into())).collect();
            Ok(Some(Backings { arrays: NSDictionary::from_retained_objects(&names, &arrays?) }))
        })
    }
}

/// A prediction that is asked for.
pub struct Request {
    /// What it reads.
    pub inputs: Inputs,
    /// What it remembers, where the model has states.
    pub state: Option<State>,
    /// Where it writes, where outputs have a fixed shape.
    pub backings: Option<Backings>,
}

impl Request {
    fn options(&self) -> Retained<MLPredictionOptions> {
        // SAFETY: `new` makes an object that is valid with its defaults.
        let options = unsafe { MLPredictionOptions::new() };
        if let Some(backings) = self.backings.as_ref().filter(|_| os::OUTPUT_BACKINGS.here()) {
            // SAFETY: the values are arrays that nothing else uses until the prediction has ended.
            unsafe { options.setOutputBackings(&backings.arrays) };
        }
        options
    }

    fn end(self, result: Result<Retained<Provider>, Failure>) -> Prediction {
        let Request { inputs: _, state, backings } = self;
        Prediction { result: result.map(|provider| Outputs { provider, backings }), state }
    }
}

/// A prediction that has ended.
pub struct Prediction {
    /// The outputs.
    pub result: Result<Outputs, Failure>,
    /// The state afterwards.
    pub state: Option<State>,
}

pub(crate) fn answer<'a, T: ?Sized>(value: Option<&'a T>, error: Option<&NSError>) -> Result<&'a T, Failure> {
    match (value, error) {
        (Some(value), _) => Ok(value),
        (None, Some(error)) => Err(Failure::from(error)),
        (None, None) => Err(Failure::ours("Core ML gave neither a result nor an error")),
    }
}

pub(crate) fn url(path: &Path) -> Result<Retained<NSURL>, Failure> {
    let text = path.to_str().ok_or_else(|| Failure::ours(format!("{} is not UTF-8", path.display())))?;
    Ok(NSURL::fileURLWithPath(&NSString::from_str(text)))
}

fn path(url: &NSURL) -> Result<PathBuf, Failure> {
    let path = url.path().ok_or_else(|| Failure::ours("the compiler gave a place that is no file"))?;
    Ok(PathBuf::from(path.to_string()))
}
