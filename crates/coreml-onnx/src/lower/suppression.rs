//! Non-maximum suppression.

use super::{Fault, Lowering, OpReader, Results, made_count};
use crate::onnx::{Element, OnnxBuilder, Value};

pub(super) const OPS: &[Lowering] = &[Lowering { mil: "non_maximum_suppression", run: non_maximum_suppression }];

/// What a suppression keeps. Its numbers are scalars, `most` an int64.
#[derive(Clone, Debug)]
pub(crate) struct Suppression {
    /// Boxes that overlap a better one by more than this are left out.
    pub(crate) overlap: Value,
    /// Boxes whose best score is below this are left out. The best box of all stays.
    pub(crate) least_score: Option<Value>,
    pub(crate) most: Value,
    /// Whether boxes of different classes leave each other alone.
    pub(crate) per_class: bool,
}

/// Which boxes are kept.
pub(crate) struct Kept {
    /// (batch, most): the best first, and -1 for a place that is left over.
    pub(crate) indices: Value,
    /// (batch): how many there are.
    pub(crate) count: Value,
    pub(crate) boxes: Value,
    pub(crate) scores: Value,
}

/// From iOS 17 on, boxes and scores have the boxes last, and there is neither a least score nor a count.
fn non_maximum_suppression(op: &OpReader<'_>, onnx: &mut OnnxBuilder) -> Results {
    let (boxes, scores) = (op.value("boxes")?, op.value("scores")?);
    let least_score = op.maybe_source("score_threshold")?;
    let most = op.int("max_boxes")?;
    let most = usize::try_from(most).ok().filter(|&most| most > 0).ok_or("max_boxes must be at least 1")?;
    made_count(&[most])?;
    let overlap = op.float("iou_threshold")?;
    let least_score = least_score.and_then(|source| source.f32s().first().copied());
    let suppression = Suppression {
        overlap: onnx.floats(&[], vec![overlap]),
        least_score: least_score.map(|score| onnx.floats(&[], vec![score])),
        most: onnx.int(most as i64),
        per_class: op.bool_or("per_class_suppression", false)?,
    };
    if [&boxes, &scores].iter().any(|v| v.dims().map(<[_]>::len) != Some(3)) {
        return Err("boxes and scores must have rank 3".into());
    }
    let boxes_last = op.outputs().len() == 3;
    if !boxes_last {
        let kept = suppression.of(onnx, &boxes, &scores)?;
        return Ok(vec![kept.boxes, kept.scores, kept.indices, kept.count]);
    }
    let turn = |onnx: &mut OnnxBuilder, x: &Value| onnx.transpose(x, &[0, 2, 1]);
    let (boxes, scores) = (turn(onnx, &boxes), turn(onnx, &scores));
    let kept = suppression.of(onnx, &boxes, &scores)?;
    Ok(vec![turn(onnx, &kept.boxes), turn(onnx, &kept.scores), kept.indices])
}

/// Left, top, right and bottom, and the area, of boxes; each of shape (batch, boxes).
struct Corners {
    sides: [Value; 4],
    area: Value,
}

impl Suppression {
    /// `boxes` are (batch, boxes, 4) with centre x and y, width and height; `scores` are (batch, boxes, classes).
    ///
    /// Takes the best box that is left and strikes out what it overlaps, as often as boxes are wanted.
    pub(crate) fn of(&self, onnx: &mut OnnxBuilder, boxes: &Value, scores: &Value) -> Result<Kept, Fault> {
        let corners = Corners::of(onnx, boxes);
        let best = onnx.reduce("ReduceMax", scores, &[2], false);
        let class = self.per_class.then(|| onnx.arg("ArgMax", scores, 2, false));
        let struck = onnx.scalar(f32::NEG_INFINITY, &best);
        let mut left = best;
        if let Some(limit) = &self.least_score {
            let highest = onnx.reduce("ReduceMax", &left, &[1], true);
            let limit = onnx.binary("Min", limit, &highest);
            let high = onnx.compare("GreaterOrEqual", &left, &limit);
            left = onnx.select(&high, &left, &struck);
        }
        let shape = onnx.shape(&left);
        let (zero, one) = (onnx.int(0), onnx.int(1));
        let count = onnx.gather(&shape, &one, 0);
        let numbers = onnx.range(&zero, &count, &one);

        onnx.open_graph();
        let step = onnx.graph_input("step", Element::I64, Some(Vec::new()));
        let going_on = onnx.graph_input("going_on", Element::Bool, Some(Vec::new()));
        let before = onnx.graph_input("left", Element::F32, None);
        let at = onnx.arg("ArgMax", &before, 1, true);
        let top = onnx.gather_elements(&before, &at, 1);
        let there = onnx.compare("Greater", &top, &struck);
        let nobody = onnx.int(-1);
        let found = onnx.select(&there, &at, &nobody);
        let mut rival = corners.overlaps(onnx, &at, &self.overlap);
        if let Some(class) = &class {
            let own = onnx.gather_elements(class, &at, 1);
            let same = onnx.compare("Equal", class, &own);
            rival = onnx.compare("And", &rival, &same);
        }
        let itself = onnx.compare("Equal", &numbers, &at);
        let gone = onnx.compare("Or", &rival, &itself);
        let after = onnx.select(&gone, &struck, &before);
        let body = onnx.close_graph("strike", &[step, going_on.clone(), before], &[going_on, after, found]);

        let results = onnx.repeat(&self.most, &[left], &[Element::I64], body);
        let found = onnx.squeeze(&results[1], &[2]);
        let indices = onnx.transpose(&found, &[1, 0]);
        Ok(kept(onnx, boxes, scores, indices))
    }
}

impl Corners {
    fn of(onnx: &mut OnnxBuilder, boxes: &Value) -> Corners {
        let [x, y, width, height] = [0, 1, 2, 3].map(|i| {
            let at = onnx.int(i);
            onnx.gather(boxes, &at, 2)
        });
        let (wide, high) = (onnx.with_scalar("Mul", &width, 0.5), onnx.with_scalar("Mul", &height, 0.5));
        Corners {
            sides: [
                onnx.binary("Sub", &x, &wide),
                onnx.binary("Sub", &y, &high),
                onnx.binary("Add", &x, &wide),
                onnx.binary("Add", &y, &high),
            ],
            area: onnx.binary("Mul", &width, &height),
        }
    }

    /// Whether each box shares more than `limit` of both areas with the one at `at`, of shape (batch, 1).
    fn overlaps(&self, onnx: &mut OnnxBuilder, at: &Value, limit: &Value) -> Value {
        let own = |onnx: &mut OnnxBuilder, side: &Value| onnx.gather_elements(side, at, 1);
        let mut shared: Option<Value> = None;
        for (low, high) in [(0, 2), (1, 3)] {
            let (from, to) = (own(onnx, &self.sides[low]), own(onnx, &self.sides[high]));
            let (from, to) = (onnx.binary("Max", &self.sides[low], &from), onnx.binary("Min", &self.sides[high], &to));
            let length = onnx.binary("Sub", &to, &from);
            let length = onnx.unary("Relu", &length);
            shared = Some(shared.map_or(length.clone(), |shared| onnx.binary("Mul", &shared, &length)));
        }
        let shared = shared.expect("there are two sides");
        let area = own(onnx, &self.area);
        let both = onnx.binary("Add", &self.area, &area);
        let whole = onnx.binary("Sub", &both, &shared);
        // Of two boxes without an area this is no number, which is not above the limit.
        let share = onnx.binary("Div", &shared, &whole);
        onnx.compare("Greater", &share, limit)
    }
}

/// What stands at `indices`; zeros where there is none.
fn kept(onnx: &mut OnnxBuilder, boxes: &Value, scores: &Value, indices: Value) -> Kept {
    let zero = onnx.int(0);
    let there = onnx.compare("GreaterOrEqual", &indices, &zero);
    let safe = onnx.binary("Max", &indices, &zero);
    let places = onnx.unsqueeze(&safe, &[-1]);
    let shown = onnx.unsqueeze(&there, &[-1]);
    let [boxes, scores] = [boxes, scores].map(|from| {
        let picked = onnx.gather_nd(from, &places, 1);
        let nothing = onnx.scalar(0.0, &picked);
        onnx.select(&shown, &picked, &nothing)
    });
    let ones = onnx.cast(&there, Element::I64);
    let count = onnx.reduce("ReduceSum", &ones, &[1], false);
    Kept { indices, count, boxes, scores }
}
