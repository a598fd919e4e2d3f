use proptest::prelude::*;

use super::*;

const SAMPLE: &str = include_str!("../../../../harkara-webhook/golden/order_succeeded.json");

#[test]
fn a_usual_body_takes_a_fraction_and_names_its_dictionary() {
    let bodies = Bodies::embedded();
    let body = serde_json::to_vec(&serde_json::from_str::<serde_json::Value>(SAMPLE).unwrap());
    let body = body.unwrap();
    let frame = bodies.pack(&body).unwrap();
    assert!(
        frame.len() * 4 < body.len(),
        "{} of {}",
        frame.len(),
        body.len()
    );
    assert_eq!(get_dict_id_from_frame(&frame).map(u32::from), Some(NEWEST));
    assert_eq!(bodies.unpack(&frame).unwrap(), body);
}

/// Whatever single bit the disk turns over, nobody is given another body than was packed.
#[test]
fn a_flipped_bit_is_found_out() {
    let bodies = Bodies::embedded();
    let frame = bodies.pack(SAMPLE.as_bytes()).unwrap();
    let mut harmless = 0;
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match bodies.unpack(&flipped) {
            Ok(body) => {
                assert_eq!(body, SAMPLE.as_bytes(), "bit {bit}");
                harmless += 1;
            }
            Err(Damaged::Dictionary(_) | Damaged::Frame(_)) => {}
            Err(Damaged::Text(error)) => panic!("bodies are bytes: {error}"),
        }
    }
    // The format has a few bits in each header that nobody reads.
    assert!(harmless < 20, "{harmless} flips went unnoticed");
}

#[test]
fn a_frame_of_a_dictionary_that_is_gone_says_so() {
    let frame = Bodies::embedded().pack(b"{}").unwrap();
    let without = Bodies::with(BTreeMap::new());
    let error = without.unpack(&frame).unwrap_err();
    insta::assert_snapshot!(error, @"a stored body names dictionary 1, which the store does not have");
}

proptest! {
    #[test]
    fn any_bytes_come_back(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        let bodies = Bodies::embedded();
        prop_assert_eq!(bodies.unpack(&bodies.pack(&body).unwrap()).unwrap(), body);
    }

    #[test]
    fn no_bytes_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Bodies::embedded().unpack(&frame);
    }
}
