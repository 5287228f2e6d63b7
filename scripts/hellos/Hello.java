import java.util.Arrays;
import java.util.List;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/** Begins a TLS connection as the JDK does: Hello PORT NAME PROTOCOL... */
class Hello {
    public static void main(String[] arguments) throws Exception {
        var port = Integer.parseInt(arguments[0]);
        try (var socket = (SSLSocket) SSLSocketFactory.getDefault().createSocket("127.0.0.1", port)) {
            var parameters = socket.getSSLParameters();
            parameters.setServerNames(List.of(new SNIHostName(arguments[1])));
            parameters.setApplicationProtocols(Arrays.copyOfRange(arguments, 2, arguments.length));
            socket.setSSLParameters(parameters);
            socket.startHandshake();
        }
    }
}
