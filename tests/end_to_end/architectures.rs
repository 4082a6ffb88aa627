//! Architectures other than the shipped models against PyTorch: losses, norms, gradients and final
//! weights of ten steps. `generate.py` beside them made the traces.

use crate::support::{Place, root};

/// A test for each model in `tests/architectures`.
macro_rules! follow {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let folder = root().join("tests/architectures").join(stringify!($name));
                let model = folder.with_extension("giga").display().to_string();
                Place::new().follow(&model, &folder);
            }
        )*

        #[test]
        fn every_model_is_followed() {
            let folder = std::fs::read_dir(root().join("tests/architectures")).expect("it is shipped");
            let names = folder.map(|e| e.expect("readable").path());
            let models = names.filter(|p| p.extension().is_some_and(|e| e == "giga"));
            assert_eq!(models.count(), [$(stringify!($name)),*].len());
        }
    };
}

follow! {
    bigcode
    bloom
    choice
    deepseek
    diffllama
    falcon
    gemma3
    gptj
    gptoss
    groups
    mixtral
    olmo2
    packed
    short_conv
    stored
    streams
    t5
    yarn
}
