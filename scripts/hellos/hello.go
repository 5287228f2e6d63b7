// Command hello begins a TLS connection as Go's crypto/tls does: hello PORT NAME PROTOCOL...
package main

import (
	"crypto/tls"
	"log"
	"net"
	"os"
)

func main() {
	config := &tls.Config{ServerName: os.Args[2], NextProtos: os.Args[3:]}
	connection, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", os.Args[1]), config)
	if err != nil {
		log.Fatal(err)
	}
	connection.Close()
}
