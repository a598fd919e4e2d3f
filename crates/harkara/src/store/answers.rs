//! How the answer that an attempt got is kept: its head as it came, an empty line, its body.
//!
//! Most answers are a few short lines, which a frame of their own would make no smaller; long ones
//! are packed like any other text. `Store` and the views call this, outside the writer.

use super::bodies::Bodies;
use super::error::DbError;
use super::rows::Evidence;

/// Below this a frame saves little, and costs its header and its checksum.
const WORTH_PACKING_BYTES: usize = 200;
/// How a frame begins, and no text does: the second byte cannot stand there in UTF-8.
const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The answer of an attempt, or nothing if there was none.
pub(super) fn pack(evidence: &Evidence, bodies: &Bodies) -> Result<Option<Vec<u8>>, DbError> {
    let mut text = String::new();
    for (name, value) in &evidence.answer_headers {
        text.extend([name, ": ", value, "\n"]);
    }
    if !evidence.answer_body.is_empty() {
        text.extend(["\n", &evidence.answer_body]);
    }
    match text.len() {
        0 => Ok(None),
        short if short < WORTH_PACKING_BYTES => Ok(Some(text.into_bytes())),
        _ => bodies.pack(text.as_bytes()).map(Some),
    }
}

/// Fills in the answer that was stored.
pub(super) fn unpack(
    stored: &[u8],
    bodies: &Bodies,
    evidence: &mut Evidence,
) -> Result<(), DbError> {
    let text = match stored.starts_with(&FRAME) {
        true => bodies.unpack_text(stored)?,
        false => String::from_utf8_lossy(stored).into_owned(),
    };
    let mut rest = text.as_str();
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        let header = (name.to_owned(), value.to_owned());
        evidence.answer_headers.push(header);
    }
    evidence.answer_body = rest.to_owned();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let bodies = Bodies::embedded();
        let long = "x: y\n\n".repeat(100);
        for headers in [
            &[][..],
            &[("date", "Tue: 1"), ("via", "")],
            &[("set-cookie", "a=b")],
        ] {
            for body in ["", "ok", "\n", "\n\na: b\n", "no: header", long.as_str()] {
                let headers = headers
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
                let evidence = Evidence {
                    answer_headers: headers.collect(),
                    answer_body: body.to_owned(),
                    ..Evidence::default()
                };
                let mut read = Evidence::default();
                if let Some(stored) = pack(&evidence, &bodies).unwrap() {
                    unpack(&stored, &bodies, &mut read).unwrap();
                }
                assert_eq!(read, evidence);
            }
        }
    }
}
