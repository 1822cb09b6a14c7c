//! What Core ML computes on.

use objc2::{
    rc::autoreleasepool,
    runtime::{AnyObject, ProtocolObject},
};
use objc2_core_ml::{
    MLCPUComputeDevice, MLComputeDeviceProtocol, MLGPUComputeDevice, MLModel, MLNeuralEngineComputeDevice,
};

use crate::os;

/// Something that Core ML computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A GPU.
    Gpu,
    /// The Neural Engine, and how many cores it has.
    NeuralEngine {
        /// Cores, as the system counts them.
        cores: usize,
    },
    /// A kind that is newer than this library.
    Other,
}

/// What Core ML has here; `None` before macOS 14 and iOS 17, which do not tell.
pub fn devices() -> Option<Vec<Device>> {
    // Not `MLAllComputeDevices`: a binary that refers to this function does not start on systems without it.
    os::COMPUTE_DEVICES.here().then(|| {
        autoreleasepool(|_| {
            // SAFETY: a property of the class, which this system has.
            let devices = unsafe { MLModel::availableComputeDevices() };
            devices.iter().map(|device| Device::of(&device)).collect()
        })
    })
}

impl Device {
    /// Which device an object of Core ML's is. The system must have [`os::COMPUTE_DEVICES`], since older ones do not
    /// have the classes.
    pub(crate) fn of(object: &ProtocolObject<dyn MLComputeDeviceProtocol>) -> Device {
        let object: &AnyObject = object.as_ref();
        if let Some(engine) = object.downcast_ref::<MLNeuralEngineComputeDevice>() {
            // SAFETY: a plain property.
            let cores = unsafe { engine.totalCoreCount() };
            return Device::NeuralEngine { cores: usize::try_from(cores).unwrap_or(0) };
        }
        if object.downcast_ref::<MLGPUComputeDevice>().is_some() {
            return Device::Gpu;
        }
        if object.downcast_ref::<MLCPUComputeDevice>().is_some() {
            return Device::Cpu;
        }
        Device::Other
    }
}
