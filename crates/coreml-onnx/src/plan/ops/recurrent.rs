//! Recurrent networks.

use super::{Inferred, Operands, Operator};
use crate::plan::fact::{Fact, count};

pub(super) const OPS: &[Operator] = &[
    Operator::new("GRU", recurrent).workspace(gru_workspace).flops(|op, _| flops(op, 3)),
    Operator::new("LSTM", recurrent).workspace(lstm_workspace).flops(|op, _| flops(op, 4)),
    Operator::new("RNN", recurrent).workspace(rnn_workspace).flops(|op, _| flops(op, 1)),
];

/// What a recurrent operator computes on.
struct Net {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    reverse: bool,
}

impl Net {
    fn of(op: &Operands<'_>) -> Option<Net> {
        let (&[steps, batch, input], &[directions, _, hidden]) = (op.shape(0)?, op.shape(2)?) else { return None };
        let reverse = op.string("direction").is_some_and(|direction| direction != "forward");
        Some(Net { steps, batch, input, hidden, directions, reverse })
    }

    /// Bytes that ONNX Runtime takes: the gates of all steps, which it computes from the input in one product, and
    /// some states, both for each direction; and for the reverse direction input and output turned round.
    fn workspace(&self, gates: usize, states: usize, element: usize) -> usize {
        let &Net { steps, batch, input, hidden, directions, reverse } = self;
        let gates = count(&[directions, gates, steps, batch, hidden]);
        let states = count(&[directions, states, batch, hidden]);
        let turned = if reverse { count(&[steps, batch, input.saturating_add(hidden)]) } else { 0 };
        gates.saturating_add(states).saturating_add(turned).saturating_mul(element)
    }
}

/// Two products with the weights of each gate and step, and two operations on each gate's sums.
fn flops(op: &Operands<'_>, gates: usize) -> u64 {
    let Some(Net { steps, batch, input, hidden, directions, .. }) = Net::of(op) else { return 0 };
    let inner = input.saturating_add(hidden).saturating_add(1);
    count(&[2, directions, steps, batch, gates, hidden, inner]) as u64
}

/// All hidden states, the last one and, of an LSTM, the last cell.
fn recurrent(op: &Operands<'_>) -> Inferred {
    let (net, element) = (Net::of(op)?, op.element(0)?);
    let all = Fact::new(element, vec![net.steps, net.directions, net.batch, net.hidden]);
    let last = Fact::new(element, vec![net.directions, net.batch, net.hidden]);
    Some(vec![all, last.clone(), last])
}

fn lstm_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    workspace(op, results, |net, element| net.workspace(4, 3, element))
}

fn gru_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    let states = if op.int("linear_before_reset").unwrap_or(0) == 0 { 5 } else { 7 };
    workspace(op, results, |net, element| net.workspace(3, states, element))
}

/// One buffer of hidden states serves both directions.
fn rnn_workspace(op: &Operands<'_>, results: &[Fact]) -> usize {
    workspace(op, results, |net, element| count(&[net.steps, net.batch, net.hidden]).saturating_mul(element))
}

fn workspace(op: &Operands<'_>, results: &[Fact], of: impl Fn(&Net, usize) -> usize) -> usize {
    Net::of(op).zip(results.first()).map_or(0, |(net, result)| of(&net, result.element.size()))
}
