// The tutorial's application: answers whoever sends something with a text, by TCP or UDP. It knows
// the flags that the tutorial gives to hashicorp/http-echo, whose name its image carries, and one more.
package main

import (
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	listen := flag.String("listen", ":5678", "address to listen on")
	text := flag.String("text", "", "what to answer; without it, what was sent comes back")
	udp := flag.Bool("udp", false, "answer datagrams instead of connections")
	each := flag.Bool("each", false, "answer with the text each time that something comes on a connection")
	flag.Parse()

	serve := serveTCP
	if *each {
		answer = answerEach
	}
	if *udp {
		serve = serveUDP
	}
	reply := []byte(*text)
	if *text != "" {
		reply = append(reply, '\n')
	}
	go func() { log.Fatal(serve(*listen, reply)) }()
	log.Printf("listening on %s, udp %t", *listen, *udp)
	waitForSignal()
}

// Process 1 of a container has no default action for signals.
func waitForSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
}

func serveTCP(address string, reply []byte) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go answer(connection, reply)
	}
}

// What becomes of a connection.
var answer = answerFirst

// Sends the reply once the first bytes came, and keeps the connection until the client is done.
// Without a reply it sends back what comes.
func answerFirst(connection net.Conn, reply []byte) {
	defer connection.Close()
	if len(reply) == 0 {
		io.Copy(connection, connection)
		return
	}
	first := make([]byte, 16*1024)
	if length, _ := connection.Read(first); length == 0 {
		return
	}
	if _, err := connection.Write(reply); err == nil {
		io.Copy(io.Discard, connection)
	}
}

// Sends the reply whenever bytes came.
func answerEach(connection net.Conn, reply []byte) {
	defer connection.Close()
	request := make([]byte, 16*1024)
	for {
		if length, _ := connection.Read(request); length == 0 {
			return
		}
		if _, err := connection.Write(reply); err != nil {
			return
		}
	}
}

func serveUDP(address string, reply []byte) error {
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	datagram := make([]byte, 65535)
	for {
		length, peer, err := socket.ReadFrom(datagram)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		answered := reply
		if len(reply) == 0 {
			answered = datagram[:length]
		}
		socket.WriteTo(answered, peer)
	}
}
