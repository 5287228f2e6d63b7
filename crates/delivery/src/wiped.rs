use std::{
    io::{self, Read, Write},
    ops::Deref,
};

use zeroize::Zeroizing;

/// How much is read at once, and the least that is allocated.
const CHUNK: usize = 32 << 10;

/// Bytes that may hold keys. They are wiped from memory when they aren't needed any more, and from where
/// they were before there was no more room for them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    /// All that there is to read.
    ///
    /// # Errors
    /// The reader's.
    pub fn read(mut reader: impl Read) -> io::Result<Self> {
        let mut bytes = Self::default();
        loop {
            let before = bytes.len();
            bytes.make_room(CHUNK);
            bytes.0.resize(before + CHUNK, 0);
            let count = reader.read(&mut bytes.0[before..])?;
            bytes.0.truncate(before + count);
            if count == 0 {
                return Ok(bytes);
            }
        }
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Makes room for so many more bytes.
    fn make_room(&mut self, more: usize) {
        let needed = self.0.len() + more;
        if needed > self.0.capacity() {
            let capacity = needed.max(2 * self.0.capacity()).max(CHUNK);
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&self.0);
            // The smaller one is wiped as it is dropped.
            self.0 = larger;
        }
    }
}

impl From<Vec<u8>> for Wiped {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Wiped {
    /// Not the bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wiped({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_is_written_or_read_however_much_that_is() {
        let text: Vec<_> = (0..3 * CHUNK + 1).map(|n| n as u8).collect();
        let mut written = Wiped::default();
        text.chunks(1_000).for_each(|part| written.write_all(part).unwrap());
        assert_eq!(*written, *text);
        assert_eq!(Wiped::read(&*text).unwrap(), written);
        assert!(Wiped::read(io::empty()).unwrap().is_empty());
    }

    #[test]
    fn it_never_grows_in_place() {
        // A vector that grows by itself leaves a copy behind, so each must have had room for all of it.
        let mut bytes = Wiped::default();
        for _ in 0..10_000 {
            bytes.make_room(17);
            let (place, capacity) = (bytes.0.as_ptr(), bytes.0.capacity());
            bytes.write_all(&[7; 17]).unwrap();
            assert_eq!((bytes.0.as_ptr(), bytes.0.capacity()), (place, capacity));
        }
    }

    #[test]
    fn none_of_it_is_shown() {
        assert_eq!(format!("{:?}", Wiped::from(b"key".to_vec())), "Wiped(3 bytes)");
    }
}
