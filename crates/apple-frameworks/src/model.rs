//! Models: compiling, loading and predicting.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use block2::{RcBlock, StackBlock};
use objc2::{
    AllocAnyThread, Message, msg_send,
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
    kept::Kept,
    lend::{contain, lend},
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
            contain(|| {
                // SAFETY: Core ML gives valid objects or null, for as long as the handler runs.
                let compiled = answer(unsafe { compiled.as_ref() }, unsafe { error.as_ref() });
                // Nobody waits where the caller's thread is gone.
                let _ = send.send(compiled.and_then(path));
            });
        });
        // SAFETY: the handler owns what it uses, and may be called on any thread.
        unsafe { MLModel::compileModelAtURL_completionHandler(&url, &handler) };
        drop(handler);
        receive.recv().unwrap_or_else(|_| Err(Failure::ours("the compiler ended without an answer")))
    })
}

/// A loaded model.
///
/// Asynchronous predictions may run side by side; predictions that are waited for have the model alone.
pub struct Model {
    object: Kept<MLModel>,
    /// Which model it is, for its states.
    id: Arc<()>,
    /// Asynchronous predictions have it too, for as long as they are under way.
    running: Arc<()>,
    /// Held while a state is made.
    making: Mutex<()>,
}

// SAFETY: Core ML's models may be handed from thread to thread, as long as one uses them at a time, but for asynchronous
// predictions. Other predictions borrow the model mutably, and refuse while asynchronous ones are under way, which outlive
// their borrow.
unsafe impl Send for Model {}

// SAFETY: `&Model` allows two things. Asynchronous predictions may be asked for from any thread at any time, as Apple says
// ("Improve Core ML integration with async prediction", WWDC 2023). New states are made by one thread at a time; of making
// them beside predictions Apple says nothing, but that each has buffers of its own, allocated for it.
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
            let object = Kept::new(object.map_err(|e| Failure::from(&*e))?);
            Ok(Model { object, id: Arc::default(), running: Arc::default(), making: Mutex::default() })
        })
    }

    /// Whether predictions need no thread of their own.
    pub fn is_async() -> bool {
        os::ASYNC_PREDICTION.here()
    }

    /// Predicts on this thread, and waits for the end. It fails while asynchronous predictions of this model are under way,
    /// and with the state of another model.
    pub fn predict(&mut self, request: Request) -> Prediction {
        if let Err(failure) = self.alone().and_then(|()| self.check_state(&request)) {
            return request.end(Err(failure));
        }
        autoreleasepool(|_| {
            let (features, options) = (request.inputs.features(), request.options());
            let result = match &request.state {
                // SAFETY: this thread has the model alone; the state is this model's, and this prediction alone has it,
                // since it owns the request.
                Some(state) if os::STATE.here() => unsafe {
                    self.object.predictionFromFeatures_usingState_options_error(features, &state.object, &options)
                },
                // SAFETY: this thread has the model alone.
                _ => unsafe { self.object.predictionFromFeatures_options_error(features, &options) },
            };
            request.end(result.map_err(|e| Failure::from(&*e)))
        })
    }

    /// Predicts, and calls `done` from another thread. It is dropped uncalled where Core ML gives up without an answer.
    ///
    /// # Errors
    /// Where this system has no asynchronous prediction, which [`Model::is_async`] tells, and with the state of another
    /// model.
    pub fn predict_async(
        &self,
        request: Request,
        done: impl FnOnce(Prediction) + Send + 'static,
    ) -> Result<(), Failure> {
        if !os::ASYNC_PREDICTION.here() {
            return Err(Failure::ours(format!("there is no asynchronous prediction before {}", os::ASYNC_PREDICTION)));
        }
        self.check_state(&request)?;
        autoreleasepool(|_| {
            let options = request.options();
            let features = request.inputs.features.retain();
            let state = request.state.as_ref().map(|state| state.object.retain());
            // In this order, they are dropped where there is no answer.
            let pending = Mutex::new(Some((self.running.clone(), request, done)));
            let handler = RcBlock::new(move |outputs: *mut Provider, error: *mut NSError| {
                contain(|| {
                    let pending = pending.lock().unwrap_or_else(PoisonError::into_inner).take();
                    // Handlers are called once; should one be called again, there is nothing left to do.
                    let Some((running, request, done)) = pending else { return };
                    // Whoever is told of the end may have the model alone.
                    drop(running);
                    // SAFETY: Core ML gives valid objects or null, for as long as the handler runs.
                    let answer = answer(unsafe { outputs.as_ref() }, unsafe { error.as_ref() });
                    // Where this panics, whoever waits sees that `done` is gone.
                    done(request.end(answer.map(|outputs| outputs.retain())));
                });
            });
            let features = ProtocolObject::from_ref(&*features);
            match state {
                // SAFETY: the state is this model's, and the request owns it, so that no other prediction has it; the
                // handler owns what it uses and may be called on any thread.
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
    /// What Core ML says; then none has an answer. And while asynchronous predictions of this model are under way.
    pub fn predict_batch(&mut self, batch: &[Inputs]) -> Result<Vec<Outputs>, Failure> {
        self.alone()?;
        autoreleasepool(|_| {
            let providers: Vec<&Provider> = batch.iter().map(Inputs::features).collect();
            let array = NSArray::from_slice(&providers);
            // SAFETY: each element is a feature provider.
            let batch =
                unsafe { MLArrayBatchProvider::initWithFeatureProviderArray(MLArrayBatchProvider::alloc(), &array) };
            // SAFETY: `new` makes an object that is valid with its defaults.
            let options = unsafe { MLPredictionOptions::new() };
            let batch = ProtocolObject::from_ref(&*batch);
            // SAFETY: this thread has the model alone.
            let outputs = unsafe { self.object.predictionsFromBatch_options_error(batch, &options) };
            let outputs = outputs.map_err(|e| Failure::from(&*e))?;
            // SAFETY: a plain property.
            let count = unsafe { outputs.count() };
            let of = |index| {
                // SAFETY: the index is below the count.
                let provider = unsafe { outputs.featuresAtIndex(index) };
                Outputs { provider: Kept::new(provider), backings: None }
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
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            // SAFETY: this system has states; a model without any gives an empty one. No other is made at this time.
            let object = unsafe { self.object.newState() };
            // SAFETY: a plain property.
            let description = unsafe { self.object.modelDescription() };
            // SAFETY: a plain property.
            let described = unsafe { description.stateDescriptionsByName() };
            let names = described.keys().map(|name| name.to_string()).collect();
            Ok(State { object: Kept::new(object), names, model: self.id.clone() })
        })
    }

    /// Makes sure that no asynchronous prediction is under way, nor will be while `self` is borrowed.
    fn alone(&mut self) -> Result<(), Failure> {
        let alone = Arc::get_mut(&mut self.running);
        alone.copied().ok_or_else(|| Failure::ours("asynchronous predictions of this model are under way"))
    }

    /// Makes sure that a state is this model's.
    fn check_state(&self, request: &Request) -> Result<(), Failure> {
        match &request.state {
            Some(state) if !Arc::ptr_eq(&state.model, &self.id) => Err(Failure::ours("the state is another model's")),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").finish_non_exhaustive()
    }
}

/// What a prediction reads.
pub struct Inputs {
    features: Kept<MLDictionaryFeatureProvider>,
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
            Ok(Inputs { features: Kept::new(features.map_err(|e| Failure::from(&*e))?) })
        })
    }

    fn features(&self) -> &Provider {
        ProtocolObject::from_ref(&*self.features)
    }
}

/// What a prediction gives.
pub struct Outputs {
    provider: Kept<Provider>,
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
pub struct State {
    object: Kept<MLState>,
    names: Vec<String>,
    /// The model's `id`.
    model: Arc<()>,
}

// SAFETY: Apple declares the class as sendable; one prediction at a time has it, since requests own it.
unsafe impl Send for State {}

impl State {
    /// Lends the array of a state to `take`.
    ///
    /// # Errors
    /// Where the model has no such state, or its elements are of an unknown type.
    pub fn read<R>(&mut self, name: &str, take: impl FnOnce(Array<'_>) -> R) -> Result<R, Failure> {
        // What Core ML does with an unknown name, Apple does not say.
        if !self.names.iter().any(|known| known == name) {
            return Err(Failure::ours(format!("the model has no state {name:?}")));
        }
        autoreleasepool(|_| {
            let taken = lend(
                |array: *mut MLMultiArray| {
                    // SAFETY: Core ML lends a valid array until the handler returns; should it be null, that is seen.
                    unsafe { array.as_ref() }.map(|array| array::read(array, take))
                },
                |take| {
                    let (object, name, handler) = (&*self.object, NSString::from_str(name), StackBlock::new(take));
                    // SAFETY: the types are those of the declaration, but for the block's array, which may be null. The
                    // block is called before this returns, if at all; the system has states, since there is one, and no
                    // prediction has it, since it is borrowed mutably.
                    let () = unsafe { msg_send![object, getMultiArrayForStateNamed: &*name, handler: &*handler] };
                },
            );
            taken.flatten().ok_or_else(|| Failure::ours(format!("Core ML does not lend the state {name:?}")))?
        })
    }
}

/// Arrays that Core ML writes outputs to, so that it makes none. Used again once a prediction has given them back.
pub struct Backings {
    arrays: Kept<NSDictionary<NSString, AnyObject>>,
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
            Ok(Some(Backings { arrays: Kept::new(NSDictionary::from_retained_objects(&names, &arrays?)) }))
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
        Prediction { result: result.map(|provider| Outputs { provider: Kept::new(provider), backings }), state }
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
