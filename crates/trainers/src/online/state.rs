//! The bytes of an online model: weights and moments as tensors of a safetensors file, everything else in its header.

use serde::{Deserialize, Serialize};

use super::{Moments, OnlineModel, Slot};
use crate::container::{Format, Tensor, damaged};
use crate::error::Result;
use crate::settings::OnlineSettings;
use crate::table::{Objective, Position, Schema};

/// The format of an online model.
pub(crate) const FORMAT: Format = Format { name: "driftsweep-online", version: 1 };

#[derive(Serialize, Deserialize)]
struct Header {
    settings: OnlineSettings,
    objective: Objective,
    columns: Schema,
    learned: u64,
    last: Option<Position>,
}

impl OnlineModel {
    /// A model from its bytes.
    ///
    /// # Errors
    /// [`Error::Format`](crate::Error::Format) where they are none, are damaged, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (header, tensors) = FORMAT.read::<Header>(bytes)?;
        header.settings.check("")?;
        let mut model = Self::new(header.settings, header.objective, header.columns);
        (model.learned, model.last) = (header.learned, header.last);
        let slots = |name| -> Result<Vec<Slot>> {
            let values = FORMAT.floats(&tensors, name)?;
            Ok(values.as_chunks().0.iter().map(|&[value, squares]| Slot { value, squares }).collect())
        };
        let (counts, moments) = (FORMAT.integers(&tensors, "counts")?, FORMAT.floats(&tensors, "moments")?);
        let moments = counts.iter().zip(moments.as_chunks().0);
        let mut moments: Vec<_> = moments.map(|(&count, &[mean, squares])| Moments { count, mean, squares }).collect();
        let (dense, mut intercept) = (slots("weights")?, slots("intercept")?);
        let (buckets, hashed) = (FORMAT.integers(&tensors, "buckets")?, slots("hashed_weights")?);
        let known = |bucket: &u64| *bucket >> model.settings.hash_bits == 0;
        // The moments of the target come last.
        let target = moments.pop();
        let fits = moments.len() == model.moments.len()
            && dense.len() == model.dense.len()
            && buckets.len() == hashed.len()
            && buckets.iter().all(known);
        let (Some(target), Some(intercept), true) = (target, intercept.pop(), fits) else {
            return Err(FORMAT.error(damaged("its tensors do not fit its columns")));
        };
        (model.target, model.intercept) = (target, intercept);
        (model.moments, model.dense) = (moments, dense);
        model.hashed = buckets.into_iter().map(|bucket| bucket as u32).zip(hashed).collect();
        match model.is_finite() {
            true => Ok(model),
            false => Err(FORMAT.error(damaged("its weights are not finite"))),
        }
    }

    pub(super) fn write(&self) -> Result<Vec<u8>> {
        let header = Header {
            settings: self.settings.clone(),
            objective: self.objective,
            columns: self.schema.clone(),
            learned: self.learned,
            last: self.last.clone(),
        };
        let moments: Vec<Moments> = self.moments.iter().copied().chain([self.target]).collect();
        let pairs = |slots: &mut dyn Iterator<Item = &Slot>| {
            Tensor::floats(&slots.flat_map(|slot| [slot.value, slot.squares]).collect::<Vec<_>>(), 2)
        };
        let tensors = [
            ("counts", Tensor::integers(&moments.iter().map(|moments| moments.count).collect::<Vec<_>>())),
            ("moments", Tensor::floats(&moments.iter().flat_map(|m| [m.mean, m.squares]).collect::<Vec<_>>(), 2)),
            ("intercept", pairs(&mut [self.intercept].iter())),
            ("weights", pairs(&mut self.dense.iter())),
            ("buckets", Tensor::integers(&self.hashed.keys().map(|bucket| u64::from(*bucket)).collect::<Vec<_>>())),
            ("hashed_weights", pairs(&mut self.hashed.values())),
        ];
        FORMAT.write(&header, &tensors)
    }
}
