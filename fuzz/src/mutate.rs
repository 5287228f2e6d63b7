//! Mutations of inputs, as every fuzzer has them.

use crate::LONGEST;

/// A sequence of numbers that looks random: SplitMix64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    /// Where a piece of `input` begins and ends; short ones are more likely.
    fn piece(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(input.len());
        let longest = 1 << self.below(12);
        let length = 1 + self.below(longest);
        start..(start + length).min(input.len())
    }
}

/// Numbers at which programs change their minds.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX,
];

/// Changes an input in one to eight ways. `other` is one that pieces may come from.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(8) {
        mutate_once(input, other, random);
    }
    input.truncate(LONGEST);
}

fn mutate_once(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len());
    match random.below(9) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.next() as u8,
        2 => input.insert(at, random.next() as u8),
        3 => drop(input.drain(random.piece(input))),
        4 => {
            let piece = input[random.piece(input)].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let piece = other[random.piece(other)].to_vec();
            input.splice(at..at, piece);
        }
        6 => {
            let piece = other[random.piece(other)].to_vec();
            let end = (at + piece.len()).min(input.len());
            input.splice(at..end, piece);
        }
        7 => write_number(input, at, random),
        _ => write_digits(input, at, random),
    }
}

/// Writes a number over what is there, in one to eight bytes of either order.
fn write_number(input: &mut [u8], at: usize, random: &mut Random) {
    let number = NUMBERS[random.below(NUMBERS.len())];
    let width = 1 << random.below(4);
    let bytes = match random.below(2) {
        0 => number.to_le_bytes()[..width].to_vec(),
        _ => number.to_be_bytes()[8 - width..].to_vec(),
    };
    input[at..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = new);
}

/// Writes a number in the place of the digits that are there, if there are any.
fn write_digits(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|after| at + after)
    else {
        return;
    };
    let end = start + digits(&input[start..]);
    let number = NUMBERS[random.below(NUMBERS.len())].to_string();
    input.splice(start..end, number.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_become_many_others_and_never_too_long() {
        let mut random = Random(1);
        let mut seen = std::collections::BTreeSet::new();
        for start in [&b""[..], b"port: 80\n", &[0; LONGEST]] {
            for _ in 0..2_000 {
                let mut input = start.to_vec();
                mutate(&mut input, b"other", &mut random);
                assert!(input.len() <= LONGEST);
                seen.insert(input);
            }
        }
        assert!(seen.len() > 3_000, "{}", seen.len());
        let has =
            |text: &[u8]| seen.iter().any(|input| input.windows(text.len()).any(|w| w == text));
        assert!(has(b"port: 65535") && has(b"portother"));
    }
}
