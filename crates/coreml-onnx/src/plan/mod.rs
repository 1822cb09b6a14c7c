//! The memory plan of a lowered model: how many bytes of activations live at once while it runs.
//!
//! [`infer`] finds the size of every value from the sizes of the inputs, [`steps`] says what each kernel reads, writes
//! and may overwrite, and [`liveness`] lets the buffers come and go. Nothing runs, and no weight is read.
//!
//! The plan follows ONNX Runtime, whose rules are written down in its `allocation_planner.cc` and were measured here:
//!
//! - Nodes run depth first from the outputs, not in the order of the file.
//! - A change of shape is a view of the same buffer. An activation overwrites its operand where that is not read later
//!   (`Place`); arithmetic never does.
//! - A graph's output always has a buffer of its own.
//! - A buffer whose value is dead is kept if a later value has the same shape and type. So more is held than lives,
//!   in a deep network of equal layers more than twice as much.
//! - What is computed of weights alone is computed when the model is loaded, and is a weight.
//! - Four fusions ([`steps`]) that change what lives where nets are largest. Its other fusions are not modelled, and
//!   neither is its blocked layout for convolutions (x86 only), which holds a tensor twice where convolutions meet
//!   other operators.
//!
//! With ONNX Runtime 1.32 on x86-64, all optimisations on, eight of nine open models take within 10 % of their plan
//! (`tools/check_plan.py peaks`); the ninth takes 1.4 times it, for its layouts. rten has other kernels and rules: it
//! took 0.35 to 3 times the plan.

mod cost;
mod fact;
mod infer;
mod liveness;
mod ops;
mod reader;
mod steps;

pub use cost::OpCost;
pub use fact::Certainty;

use crate::onnx::{Element, OnnxModel, Port};
use fact::Fact;
use infer::Inference;

/// How much memory one run of a model takes, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes of activations, outputs and workspaces at the worst moment; inputs and weights are not counted.
    pub peak_bytes: usize,
    /// Name of the node that runs then. Empty where nothing is computed.
    pub at: String,
    /// What is in memory then, largest first; it adds up to `peak_bytes`.
    pub tensors: Vec<PlannedTensor>,
    /// Bytes of the inputs, which belong to the caller.
    pub input_bytes: usize,
    /// Bytes of the outputs.
    pub output_bytes: usize,
    /// How many values have a size that could not be inferred. Above 0, the plan may be too small.
    pub unknown: usize,
}

/// Something that is in memory at the worst moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// The value's name in the graph; of a kernel's workspace the node's.
    pub name: String,
    /// Why it is there.
    pub role: Role,
    /// The size of each dimension; empty for a workspace.
    pub shape: Vec<usize>,
    /// Its size.
    pub bytes: usize,
}

/// Why something is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It will be read, or leaves the graph.
    Live,
    /// It is dead, and its buffer is kept for a later value of the same shape.
    Kept,
    /// What a kernel takes beside its results.
    Workspace,
}

/// What is known of one value before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferredValue {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// The size of each dimension; `None` where it could not be inferred.
    pub shape: Option<Vec<usize>>,
    /// How sure the shape is.
    pub certainty: Certainty,
}

impl OnnxModel {
    /// Plans the memory of a run with inputs of these shapes, in the order of [`OnnxModel::inputs`]. A missing shape is
    /// taken from its port.
    ///
    /// Cost: n log n in the number of nodes, some 5 microseconds a node. Sizes saturate, and nothing fails: what cannot
    /// be inferred is counted in [`MemoryPlan::unknown`].
    pub fn memory_plan(&self, inputs: &[Vec<usize>]) -> MemoryPlan {
        let inference = Inference::of(self, inputs);
        let bytes = |ports: &[Port]| {
            let facts = ports.iter().filter_map(|port| inference.id(&port.name)).map(|id| inference.fact(id).bytes());
            facts.fold(0, usize::saturating_add)
        };
        let peak = liveness::peak(&self.graph, &inference);
        let is_unknown = |fact: &Fact| fact.certainty == Certainty::Unknown && !fact.constant;
        MemoryPlan {
            peak_bytes: usize::try_from(peak.bytes).unwrap_or(usize::MAX),
            at: peak.at,
            tensors: peak.tensors,
            input_bytes: bytes(&self.inputs),
            output_bytes: bytes(&self.outputs),
            unknown: inference.all().filter(|(_, fact)| is_unknown(fact)).count(),
        }
    }

    /// Infers the shape of every value in a run with inputs of these shapes, as for [`OnnxModel::memory_plan`]: inputs
    /// and weights first, then results in the order of the graph.
    pub fn inferred_values(&self, inputs: &[Vec<usize>]) -> Vec<InferredValue> {
        let inference = Inference::of(self, inputs);
        let value = |(name, fact): (&str, &Fact)| InferredValue {
            name: name.to_owned(),
            element: fact.element,
            shape: fact.shape.clone(),
            certainty: fact.certainty,
        };
        inference.all().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use coreml_format::mil::Dim;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::onnx::{Activation, OnnxBuilder, PadMode, Recurrent, Source, Value, Window};

    /// A graph in the making; every operation is named.
    struct Graph(OnnxBuilder);

    impl Graph {
        fn input(&mut self, name: &str, dims: &[usize]) -> Value {
            let dims = dims.iter().map(|&d| if d == 0 { Dim::Unknown } else { Dim::Fixed(d) }).collect();
            self.0.input(name, Element::F32, dims)
        }

        fn op(&mut self, name: &str, run: impl FnOnce(&mut OnnxBuilder) -> Value) -> Value {
            self.0.begin(name);
            let value = run(&mut self.0);
            self.0.end(vec![value], &[name]).pop().unwrap()
        }

        fn weight(&mut self, name: &str, shape: &[usize]) -> Value {
            let source = Source::floats(shape.to_vec(), vec![0.0; shape.iter().product()]);
            self.0.weight(name, Element::F32, source.into())
        }

        fn unary(&mut self, name: &str, op_type: &'static str, x: &Value) -> Value {
            self.op(name, |onnx| onnx.unary(op_type, x))
        }

        fn binary(&mut self, name: &str, op_type: &'static str, x: &Value, y: &Value) -> Value {
            self.op(name, |onnx| onnx.binary(op_type, x, y))
        }

        /// A convolution with `filters` windows of 1 x 1.
        fn conv(&mut self, name: &str, x: &Value, channels: usize, filters: usize) -> Value {
            let w = self.weight(&format!("{name}.w"), &[filters, channels, 1, 1]);
            let ones = vec![1, 1];
            let window =
                Window { kernel: ones.clone(), strides: ones.clone(), dilations: ones, pads: vec![0; 4], auto: None };
            self.op(name, |onnx| onnx.conv(x, &w, None, &window, 1))
        }
    }

    fn model(build: impl FnOnce(&mut Graph) -> Value) -> OnnxModel {
        let mut graph = Graph(OnnxBuilder::new(false));
        graph.0.reserve(["out"]);
        let out = build(&mut graph);
        graph.0.finish("test", vec![("out".to_owned(), out)])
    }

    fn check(inputs: &[&[usize]], build: impl FnOnce(&mut Graph) -> Value, expected: Expect) {
        expected.assert_eq(&show(&model(build).memory_plan(&inputs.iter().map(|d| d.to_vec()).collect::<Vec<_>>())));
    }

    fn show(plan: &MemoryPlan) -> String {
        let tensor = |t: &PlannedTensor| format!("{} {:?} {} {:?}", t.name, t.shape, t.bytes, t.role);
        let tensors: Vec<String> = plan.tensors.iter().map(tensor).collect();
        let unknown = if plan.unknown > 0 { format!(", {} unknown", plan.unknown) } else { String::new() };
        let sum = plan.tensors.iter().fold(0usize, |sum, t| sum.saturating_add(t.bytes));
        assert_eq!(sum, plan.peak_bytes, "the tensors make the peak");
        format!(
            "{} at {:?}: {}; takes {}, gives {}{unknown}",
            plan.peak_bytes,
            plan.at,
            tensors.join(", "),
            plan.input_bytes,
            plan.output_bytes
        )
    }

    #[test]
    fn activations_overwrite_and_arithmetic_does_not() {
        let chain = |graph: &mut Graph, op_type| {
            let x = graph.input("x", &[100]);
            let a = graph.unary("a", "Cos", &x);
            let b = graph.unary("b", op_type, &a);
            let c = graph.unary("c", op_type, &b);
            graph.op("sum", |onnx| onnx.reduce("ReduceSum", &c, &[0], false))
        };
        check(
            &[&[100]],
            |graph| chain(graph, "Relu"),
            expect![[r#"404 at "sum": c [100] 400 Live, out [] 4 Live; takes 400, gives 4"#]],
        );
        check(
            &[&[100]],
            |graph| chain(graph, "Abs"),
            // `c` goes where `a` was.
            expect![[r#"800 at "b": a [100] 400 Live, b [100] 400 Live; takes 400, gives 4"#]],
        );
    }

    #[test]
    fn what_is_read_later_is_not_overwritten() {
        let diamond = |graph: &mut Graph| {
            let x = graph.input("x", &[100]);
            let a = graph.unary("a", "Cos", &x);
            let b = graph.unary("b", "Relu", &a);
            let c = graph.unary("c", "Relu", &b);
            let d = graph.binary("d", "Add", &a, &c);
            graph.op("sum", |onnx| onnx.reduce("ReduceSum", &d, &[0], false))
        };
        check(
            &[&[100]],
            diamond,
            expect![[r#"1200 at "d": a [100] 400 Live, c [100] 400 Live, d [100] 400 Live; takes 400, gives 4"#]],
        );
    }

    #[test]
    fn a_change_of_shape_is_a_view_but_for_inputs_and_outputs() {
        check(
            &[&[10, 10]],
            |graph| {
                let x = graph.input("x", &[10, 10]);
                let flat = graph.op("flat", |onnx| onnx.reshape(&x, &[100]));
                let a = graph.unary("a", "Cos", &flat);
                let b = graph.op("b", |onnx| onnx.reshape(&a, &[4, -1]));
                graph.op("out", |onnx| onnx.unsqueeze(&b, &[0]))
            },
            expect![[r#"800 at "out": b [4, 25] 400 Live, out [1, 4, 25] 400 Live; takes 400, gives 400"#]],
        );
    }

    #[test]
    fn a_dead_buffer_is_kept_for_its_like() {
        let wide = |graph: &mut Graph| {
            let x = graph.input("x", &[100]);
            let first = graph.unary("first", "Cos", &x);
            let narrow = graph.op("narrow", |onnx| onnx.reduce("ReduceSum", &first, &[0], true));
            let tiled = graph.op("tiled", |onnx| {
                let repeats = onnx.ints(&[150]);
                onnx.tile(&narrow, &repeats)
            });
            let less = graph.op("less", |onnx| onnx.slice(&tiled, &[0], &[100], &[0], &[1]));
            let second = graph.unary("second", "Cos", &less);
            graph.op("sum", |onnx| onnx.reduce("ReduceSum", &second, &[0], false))
        };
        check(
            &[&[100]],
            wide,
            expect![[
                r#"1004 at "tiled": tiled [150] 600 Live, first [100] 400 Kept, narrow [1] 4 Live; takes 400, gives 4"#
            ]],
        );
    }

    #[test]
    fn steps_run_depth_first() {
        // In the order of the file, both branches would be wide at once.
        let branches = |graph: &mut Graph| {
            let x = graph.input("x", &[100]);
            let a = graph.unary("a", "Cos", &x);
            let b = graph.op("b", |onnx| onnx.concat(&[x.clone(), x.clone(), x.clone()], 0));
            let a = graph.op("a.sum", |onnx| onnx.reduce("ReduceSum", &a, &[0], true));
            let b = graph.op("b.sum", |onnx| onnx.reduce("ReduceSum", &b, &[0], true));
            graph.binary("both", "Add", &a, &b)
        };
        check(
            &[&[100]],
            branches,
            expect![[r#"1204 at "b.sum": b [300] 1200 Live, b.sum [1] 4 Live; takes 400, gives 4"#]],
        );
    }

    #[test]
    fn some_pairs_are_one_kernel() {
        check(
            &[&[1, 8, 5, 5]],
            |graph| {
                let x = graph.input("x", &[1, 8, 5, 5]);
                let a = graph.conv("a", &x, 8, 8);
                let b = graph.conv("b", &a, 8, 8);
                let sum = graph.binary("sum", "Add", &a, &b);
                graph.op("out", |onnx| onnx.unary("GlobalMaxPool", &sum))
            },
            // The second convolution adds onto the first one's result.
            expect![[r#"832 at "out": sum [1, 8, 5, 5] 800 Live, out [1, 8, 1, 1] 32 Live; takes 800, gives 32"#]],
        );
        check(
            &[&[100]],
            |graph| {
                let x = graph.input("x", &[100]);
                let a = graph.unary("a", "Cos", &x);
                let silu = graph.op("silu", |onnx| {
                    let gate = onnx.unary("Sigmoid", &a);
                    onnx.binary("Mul", &a, &gate)
                });
                graph.op("out", |onnx| onnx.reduce("ReduceSum", &silu, &[0], false))
            },
            expect![[r#"800 at "silu": a [100] 400 Live, silu [100] 400 Live; takes 400, gives 4"#]],
        );
        check(
            &[&[1, 8, 5, 5]],
            |graph| {
                let x = graph.input("x", &[1, 8, 5, 5]);
                let a = graph.conv("a", &x, 8, 8);
                let swish = graph.op("swish", |onnx| {
                    let gate = onnx.activation("HardSigmoid", &a, &[("alpha", 1.0 / 6.0), ("beta", 0.5)]);
                    onnx.binary("Mul", &a, &gate)
                });
                graph.op("out", |onnx| onnx.unary("GlobalMaxPool", &swish))
            },
            expect![[r#"832 at "out": swish [1, 8, 5, 5] 800 Live, out [1, 8, 1, 1] 32 Live; takes 800, gives 32"#]],
        );
        check(
            &[&[6, 10]],
            |graph| {
                let x = graph.input("x", &[6, 10]);
                let (w, b) = (graph.weight("w", &[10, 20]), graph.weight("b", &[20]));
                let product = graph.op("product", |onnx| onnx.mat_mul(&x, &w));
                let sum = graph.binary("sum", "Add", &product, &b);
                graph.op("out", |onnx| onnx.reduce("ReduceSum", &sum, &[0, 1], false))
            },
            expect![[r#"484 at "out": sum [6, 20] 480 Live, out [] 4 Live; takes 240, gives 4"#]],
        );
    }

    #[test]
    fn kernels_take_workspaces() {
        check(
            &[&[1, 2, 10, 10]],
            |graph| {
                let x = graph.input("x", &[1, 2, 10, 10]);
                let w = graph.weight("w", &[2, 3, 4, 4]);
                let two = vec![2, 2];
                let window =
                    Window { kernel: vec![4, 4], strides: two, dilations: vec![1, 1], pads: vec![1; 4], auto: None };
                graph.op("up", |onnx| onnx.conv_transpose(&x, &w, None, &window, &[], 1))
            },
            // 3 x 4 x 4 products for each of 10 x 10 elements; 20 x 20 places in 3 channels.
            expect![[r#"24000 at "up": up [] 19200 Workspace, out [1, 3, 20, 20] 4800 Live; takes 800, gives 4800"#]],
        );
        check(
            &[&[5, 2, 3]],
            |graph| {
                let x = graph.input("x", &[5, 2, 3]);
                let (w, r) = (graph.weight("w", &[1, 16, 3]), graph.weight("r", &[1, 16, 4]));
                let activation = |name| Activation { name, alpha: None, beta: None };
                let net = Recurrent {
                    x: &x,
                    w: &w,
                    r: &r,
                    b: None,
                    initial: Vec::new(),
                    peephole: None,
                    hidden: 4,
                    direction: "forward",
                    activations: ["Sigmoid", "Tanh", "Tanh"].map(activation).into(),
                    clip: None,
                };
                graph.op("lstm", |onnx| onnx.recurrent("LSTM", &net, false).swap_remove(0))
            },
            // 4 gates and 1 state for each of 5 steps, 3 states, in batches of 2 x 4 floats of 4 bytes.
            expect![[
                r#"960 at "lstm": lstm [] 736 Workspace, out [5, 1, 2, 4] 160 Live, lstm/LSTM.5 [1, 2, 4] 32 Live, lstm/LSTM.6 [1, 2, 4] 32 Live; takes 120, gives 160"#
            ]],
        );
    }

    #[test]
    fn of_branches_the_larger_one_counts() {
        let branch = |graph: &mut Graph, name: &str, x: &Value, repeats: i64| {
            graph.0.open_graph();
            let wide = graph.op(&format!("{name}.wide"), |onnx| {
                let repeats = onnx.ints(&[repeats]);
                onnx.tile(x, &repeats)
            });
            let sum = graph.op(&format!("{name}.sum"), |onnx| onnx.reduce("ReduceSum", &wide, &[0], true));
            graph.0.close_graph(name, &[], &[sum])
        };
        check(
            &[&[100], &[1]],
            |graph| {
                let (x, c) = (graph.input("x", &[100]), graph.input("c", &[1]));
                let x = graph.unary("x.cos", "Cos", &x);
                let c = graph.op("c.bool", |onnx| onnx.cast(&c, Element::Bool));
                let (then, otherwise) = (branch(graph, "then", &x, 2), branch(graph, "else", &x, 3));
                graph.op("if", |onnx| onnx.if_(&c, then, otherwise, &[Element::F32]).swap_remove(0))
            },
            expect![[
                r#"1605 at "else.sum": else.wide [300] 1200 Live, x.cos [100] 400 Live, else.sum [1] 4 Live, c.bool [1] 1 Live; takes 404, gives 4"#
            ]],
        );
    }

    #[test]
    fn a_loop_holds_its_variables_twice() {
        let counted = |graph: &mut Graph| {
            let x = graph.input("x", &[100]);
            let x = graph.unary("start", "Cos", &x);
            let go = graph.0.made(Element::Bool, Source::ints(vec![], &[1]));
            graph.0.open_graph();
            let i = graph.0.graph_input("i", Element::I64, Some(vec![]));
            let on = graph.0.graph_input("on", Element::Bool, Some(vec![]));
            let v = graph.0.graph_input("v", Element::F32, Some(vec![Dim::Fixed(100)]));
            let a = graph.unary("a", "Exp", &v);
            let b = graph.unary("b", "Log", &a);
            let next = graph.unary("on.next", "Not", &on);
            let body = graph.0.close_graph("body", &[i, on, v], &[next, b]);
            graph.op("loop", |onnx| onnx.loop_(&go, &[x], body).swap_remove(0))
        };
        check(
            &[&[100]],
            counted,
            expect![[
                r#"1610 at "b": a [100] 400 Live, b [100] 400 Live, start [100] 400 Live, v [100] 400 Live, i [] 8 Live, on [] 1 Live, on.next [] 1 Live; takes 400, gives 400"#
            ]],
        );
    }

    #[test]
    fn sizes_follow_the_inputs() {
        let plan = model(|graph| {
            let x = graph.input("x", &[0, 6]);
            let a = graph.unary("a", "Cos", &x);
            // (batch, 6) becomes (batch / 2, 12).
            let target = graph.op("target", |onnx| {
                let (shape, first) = (onnx.shape(&x), onnx.ints(&[0]));
                let batch = onnx.gather(&shape, &first, 0);
                let (two, twelve) = (onnx.ints(&[2]), onnx.ints(&[12]));
                let half = onnx.binary("Div", &batch, &two);
                onnx.concat(&[half, twelve], 0)
            });
            let b = graph.op("b", |onnx| onnx.reshape_to(&a, &target, false));
            graph.op("out", |onnx| onnx.reduce("ReduceMax", &b, &[1], true))
        });
        let planned = |batch: usize| show(&plan.memory_plan(&[vec![batch, 6]]));
        expect![[r#"260 at "out": b [5, 12] 240 Live, out [5, 1] 20 Live; takes 240, gives 20"#]]
            .assert_eq(&planned(10));
        expect![[r#"26000 at "out": b [500, 12] 24000 Live, out [500, 1] 2000 Live; takes 24000, gives 2000"#]]
            .assert_eq(&planned(1000));
        expect![[r#"32 at "target/Div": target/Shape [2] 16 Kept, target/Div [1] 8 Live, target/Gather [1] 8 Live; takes 0, gives 0"#]].assert_eq(&planned(0));
    }

    #[test]
    fn what_depends_on_data_is_counted_at_its_largest() {
        let picked = |graph: &mut Graph| {
            let x = graph.input("x", &[4, 5]);
            graph.op("places", |onnx| onnx.non_zero(&x))
        };
        // A list of places first, and then the result.
        check(
            &[&[4, 5]],
            picked,
            expect![[r#"640 at "places": out [2, 20] 320 Live, places [] 320 Workspace; takes 80, gives 320"#]],
        );
        let unknown = |graph: &mut Graph| {
            let (x, size) = (graph.input("x", &[1]), graph.input("size", &[1]));
            let wide = graph.op("wide", |onnx| {
                let size = onnx.cast(&size, Element::I64);
                onnx.expand(&x, &size)
            });
            graph.op("sum", |onnx| onnx.reduce("ReduceSum", &wide, &[0], false))
        };
        check(
            &[&[1], &[1]],
            unknown,
            expect![[r#"8 at "wide/Cast": wide/Cast [1] 8 Live; takes 8, gives 0, 2 unknown"#]],
        );
    }

    #[test]
    fn sizes_that_no_machine_has_saturate() {
        let huge = usize::MAX;
        let chain = |graph: &mut Graph| {
            let x = graph.input("x", &[0, 0]);
            let a = graph.unary("a", "Cos", &x);
            let b = graph.unary("b", "Cos", &a);
            let c = graph.op("c", |onnx| {
                let pads = onnx.ints(&[i64::MAX; 4]);
                onnx.pad(&b, &pads, PadMode::Constant, None)
            });
            graph.binary("sum", "Add", &b, &c)
        };
        let plan = model(chain).memory_plan(&[vec![huge, huge]]);
        assert_eq!((plan.peak_bytes, plan.input_bytes), (huge, huge));
        check(&[&[huge, 0]], chain, expect![[r#"0 at "a": ; takes 0, gives 0, 2 unknown"#]]);
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let model = model(|graph| {
            let x = graph.input("x", &[100]);
            (0..50_000).fold(x, |x, i| graph.unary(&i.to_string(), "Cos", &x))
        });
        assert_eq!(model.memory_plan(&[]).peak_bytes, 800);
    }
}
