//! x
use l4way_resources::*;
#[test]
fn fuzz() {
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for d in [
        "crates/resources/tests/diagnostics".to_owned(),
        "/root/go/pkg/mod/sigs.k8s.io/gateway-api/conformance@v1.6.1/tests".into(),
        "/root/go/pkg/mod/sigs.k8s.io/gateway-api@v1.6.1/hack/invalid-examples/standard/httproute"
            .into(),
    ] {
        let d = if d.starts_with('/') { d } else { format!("/work/main/{d}") };
        for e in std::fs::read_dir(d).unwrap() {
            let p = e.unwrap().path();
            if p.extension().is_some_and(|x| x == "yaml") {
                corpus.push(std::fs::read(p).unwrap());
            }
        }
    }
    let mut x: u64 = 0x1234_5678_9abc_def1;
    let mut rnd = move |n: usize| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x as usize) % n.max(1)
    };
    let start = std::time::Instant::now();
    let mut n = 0;
    let mut slow = std::time::Duration::ZERO;
    while start.elapsed().as_secs() < 60 {
        let mut t = corpus[rnd(corpus.len())].clone();
        for _ in 0..1 + rnd(6) {
            let i = rnd(t.len());
            match rnd(6) {
                0 => {
                    t.remove(i.min(t.len().saturating_sub(1)));
                    if t.is_empty() {
                        t.push(b'a');
                    }
                }
                1 => t.insert(i, b" \t\n:-[]{}\"'#&*!|>%@`0aZ,?\r"[rnd(26)]),
                2 => {
                    let o = &corpus[rnd(corpus.len())];
                    let a = rnd(o.len());
                    let b = a + rnd(200).min(o.len() - a);
                    let ins = o[a..b].to_vec();
                    let at = i;
                    t.splice(at..at, ins);
                }
                3 => {
                    let e = (i + rnd(50)).min(t.len());
                    t.drain(i..e);
                    if t.is_empty() {
                        t.push(b'a');
                    }
                }
                4 => {
                    let l = t.len();
                    t[i.min(l - 1)] = rnd(256) as u8;
                }
                _ => {
                    let words = [
                        "null",
                        "true",
                        "{}",
                        "[]",
                        "99999999999999999999",
                        "-1",
                        "1.5",
                        "\"\"",
                        "~",
                        "'9000'",
                        "*a",
                        "&a",
                        "<<: ",
                    ];
                    let w = words[rnd(words.len())].as_bytes().to_vec();
                    t.splice(i..i, w);
                }
            }
        }
        let text = String::from_utf8_lossy(&t).into_owned();
        let s = std::time::Instant::now();
        let r = read(
            &SourceText::new("a", text.clone()),
            ReadOptions {
                channel: [Channel::Any, Channel::Standard, Channel::Experimental][rnd(3)],
            },
        );
        for d in &r.diagnostics {
            Renderer::plain().render(d);
            let _ = d.to_string();
            if d.message.contains("can't be used") {
                println!("CANT {d}");
            }
        }
        for m in &r.manifests {
            m.place();
            m.place_at("/spec/rules/0/backendRefs/0");
        }
        if s.elapsed() > slow {
            slow = s.elapsed();
            println!("slow {slow:?} {}", text.len());
        }
        n += 1;
    }
    println!("n={n}");
}
