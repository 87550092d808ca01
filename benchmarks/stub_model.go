// A chat-completions endpoint that is not the bottleneck: it answers every POST after -delay with the last
// "Question N" of the request as "AN", by writing HTTP itself (95,000 requests a second on two cores).
//
// It prints its base URL as the first line and ends when its standard input does.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

const reply = `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"stub-1",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"%s","refusal":null},"logprobs":null,` +
	`"finish_reason":"stop"}],"usage":{"prompt_tokens":57,"completion_tokens":12,"total_tokens":69,` +
	`"prompt_tokens_details":{"cached_tokens":0}}}`

func main() {
	delay := flag.Duration("delay", 50*time.Millisecond, "time before each answer")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s/v1\n", listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn, *delay)
	}
}

// serve answers the requests of one connection, one after the other.
func serve(conn net.Conn, delay time.Duration) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		body, err := request(reader)
		if err != nil {
			return
		}
		time.Sleep(delay)
		text := fmt.Sprintf(reply, answer(body))
		head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(text))
		if _, err := io.WriteString(conn, head+"\r\n\r\n"+text); err != nil {
			return
		}
	}
}

// request reads one request and returns its body; it knows Content-Length only.
func request(reader *bufio.Reader) ([]byte, error) {
	length := 0
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return nil, err
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if strings.EqualFold(name, "content-length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return nil, err
			}
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(reader, body)
	return body, err
}

// answer is "A" and the digits after the last "Question ".
func answer(body []byte) string {
	_, tail, found := bytes.Cut(body[max(0, bytes.LastIndex(body, []byte("Question "))):], []byte("Question "))
	if !found {
		return "42"
	}
	end := 0
	for end < len(tail) && tail[end] >= '0' && tail[end] <= '9' {
		end++
	}
	return "A" + string(tail[:end])
}
