// Command probe begins TLS with ADDRESS as OpenSSL's client of Debian can't: probe ADDRESS NAME WHAT,
// where WHAT is "default", the number of a group, or "ssl3". It prints version, suite and group.
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"
)

const patience = 10 * time.Second

func main() {
	log.SetFlags(0)
	address, name, what := os.Args[1], os.Args[2], os.Args[3]
	config := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	switch what {
	case "ssl3":
		if err := ssl3(address); err != nil {
			log.Fatal(err)
		}
		fmt.Println("SSLv3")
		return
	case "default":
	default:
		group, err := strconv.ParseUint(what, 0, 16)
		if err != nil {
			log.Fatal(err)
		}
		config.CurvePreferences = []tls.CurveID{tls.CurveID(group)}
		config.MinVersion = tls.VersionTLS13
	}
	dialer := &net.Dialer{Timeout: patience}
	connection, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	state := connection.ConnectionState()
	suite := tls.CipherSuiteName(state.CipherSuite)
	fmt.Println(tls.VersionName(state.Version), suite, state.CurveID)
}

// ssl3 begins as SSL 3.0 has it (RFC 6101, section 5.6.1.2), which Go doesn't speak, and looks whether
// the answer goes on with it.
func ssl3(address string) error {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(patience))
	body := append([]byte{3, 0}, make([]byte, 32)...)             // version, random
	body = append(body, 0, 0, 6, 0, 0x35, 0, 0x2f, 0, 0x0a, 1, 0) // no session, 3 suites, no compression
	message := append([]byte{1, 0, 0, byte(len(body))}, body...)  // ClientHello
	record := append([]byte{22, 3, 0, 0, byte(len(message))}, message...)
	if _, err := connection.Write(record); err != nil {
		return err
	}
	answer := make([]byte, 7)
	n, err := connection.Read(answer)
	if err != nil {
		return err
	}
	if n == len(answer) && answer[0] == 21 {
		return fmt.Errorf("alert %d", answer[6])
	}
	if answer[0] != 22 {
		return errors.New("an answer that is no TLS")
	}
	return nil
}
