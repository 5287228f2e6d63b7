use std::sync::Arc;

use l4way_model::Transport;
use l4way_resources::api::Container;

/// How a container listens as an echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// TCP, or UDP with `-udp`.
    pub(super) transport: Transport,
    /// The port of `-listen`.
    pub(super) port: u16,
    /// What is replied: the text of `-text` and a newline. Without it, what came.
    pub(super) reply: Reply,
}

/// The bytes to reply with; `None` for those that came.
pub(super) type Reply = Option<Arc<[u8]>>;

impl Echo {
    /// What the container's command and arguments say, in the flags of `hashicorp/http-echo` as Go
    /// reads them: `-flag value`, `-flag=value`, with one dash or two.
    ///
    /// # Errors
    /// Why it isn't an echo, for a person.
    pub(super) fn of(container: &Container) -> Result<Self, String> {
        let mut arguments = container.command.iter().chain(&container.args);
        let (mut listen, mut text, mut transport) = (None, None, Transport::Tcp);
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))
            else {
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            let mut value_or_next = || value.or_else(|| arguments.next().map(String::as_str));
            match name {
                "listen" => listen = value_or_next(),
                "text" => text = value_or_next(),
                "udp" if value.is_none_or(is_true) => transport = Transport::Udp,
                _ => {}
            }
        }
        let listen = listen.ok_or("it doesn't listen as an echo (-listen :PORT)")?;
        let port = port(listen).ok_or_else(|| {
            format!("-listen {listen:?} isn't an address and port; try -listen :5000")
        })?;
        let reply = text.map(|text| format!("{text}\n").into_bytes().into());
        Ok(Self { transport, port, reply })
    }

    /// What no two containers of a pod can both listen on.
    pub(super) fn socket(&self) -> (Transport, u16) {
        (self.transport, self.port)
    }
}

/// The port of `:5000`, `0.0.0.0:5000` or `[::]:5000`.
fn port(listen: &str) -> Option<u16> {
    let (_address, port) = listen.rsplit_once(':')?;
    port.parse().ok().filter(|port| *port != 0)
}

/// What Go's `strconv.ParseBool` takes for true.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(command: &[&str], args: &[&str]) -> Result<Echo, String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Echo::of(&Container {
            name: "c".into(),
            command: owned(command),
            args: owned(args),
            ports: Vec::new(),
        })
    }

    fn reply(text: &str) -> Reply {
        Some(text.as_bytes().into())
    }

    #[test]
    fn flags_are_read_in_each_form_that_go_takes() {
        let expected = Echo { transport: Transport::Tcp, port: 5000, reply: reply("hi there\n") };
        for args in [
            &["-listen", ":5000", "-text", "hi there"][..],
            &["--listen=0.0.0.0:5000", "--text=hi there"],
            &["-text", "hi there", "-status-code", "200", "-listen=[::]:5000", "-udp=false"],
        ] {
            assert_eq!(echo(&[], args), Ok(expected.clone()), "{args:?}");
        }
        assert_eq!(
            echo(&["/http-echo", "-udp", "-listen", ":53"], &[]),
            Ok(Echo { transport: Transport::Udp, port: 53, reply: None })
        );
    }

    #[test]
    fn a_text_may_look_like_a_flag() {
        let echo = echo(&[], &["-text", "-udp", "-listen", ":1"]).unwrap();
        assert_eq!((echo.transport, echo.reply), (Transport::Tcp, reply("-udp\n")));
    }

    #[test]
    fn whatever_is_no_echo_says_why() {
        assert!(echo(&["sleep"], &["1000"]).unwrap_err().contains("doesn't listen"));
        assert!(echo(&[], &["-text", "x", "-listen"]).unwrap_err().contains("doesn't listen"));
        for listen in ["5000", ":0", ":70000", ":http"] {
            assert!(echo(&[], &["-listen", listen]).unwrap_err().contains(listen), "{listen}");
        }
    }
}
