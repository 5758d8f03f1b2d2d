//! Models, loaded once for all who use them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError, Weak};

use std::sync::Arc;

use edgecam_vision::{Description, Model, Task};

use crate::config::detectors::ModelFile;

/// Larger files are no detector for a camera gateway.
const MOST: u64 = 512 << 20;

/// Loaded models, for as long as somebody uses them.
#[derive(Default)]
pub(super) struct Models(Mutex<BTreeMap<String, Weak<Model>>>);

impl Models {
    /// The model, ready to run. Blocks: loading takes 0.1 to 1 s.
    pub(super) fn get(
        &self,
        file: &ModelFile,
        description: &Description,
        task: Option<Task>,
    ) -> Result<Arc<Model>, String> {
        let key = format!("{file} {description:?}");
        // Held while loading: two cameras with the same model wait for one load.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let model = match known.get(&key).and_then(Weak::upgrade) {
            Some(model) => model,
            None => {
                let model = Arc::new(load(file, description)?);
                known.retain(|_, model| model.strong_count() > 0);
                known.insert(key, Arc::downgrade(&model));
                model
            }
        };
        match task {
            Some(task) if model.task() != task => Err(format!(
                "the model {file} is one to {}, and this detector needs one to {}",
                model.task().name(),
                task.name()
            )),
            _ => Ok(model),
        }
    }
}

/// Reads and prepares a model.
pub fn load(file: &ModelFile, description: &Description) -> Result<Model, String> {
    let named = |error: String| format!("the model {file}: {error}");
    match file {
        ModelFile::Demo => Model::shapes().map_err(|error| named(error.to_string())),
        ModelFile::File(path) => {
            let bytes = read(path).map_err(named)?;
            Model::load(&bytes, description).map_err(|error| named(error.to_string()))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MOST {
        return Err(format!("has {size} bytes; at most {MOST} are read"));
    }
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}
