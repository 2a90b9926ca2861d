package websocket_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
)

// A coordinator serves submitters and workers over HTTP, and workers over
// WebSocket, on one port.
func Example() {
	queue, err := consign.New(consign.Config{Store: memdb.New()})
	if err != nil {
		log.Fatal(err)
	}
	pages, err := longpoll.NewHandler(longpoll.Config{Submitters: queue.Submitter, Workers: queue})
	if err != nil {
		log.Fatal(err)
	}
	sockets, err := websocket.NewHandler(websocket.Config{Workers: queue, Foreign: queue.RegisterForeign})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle(websocket.Path, sockets)
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	server.RegisterOnShutdown(sockets.Close)
	go func() { log.Print(queue.Run(context.Background())) }()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// A worker gives what Dial returns to worker.Config.API.
func ExampleDial() {
	queue, err := websocket.Dial(websocket.DialConfig{URL: "https://queue.example.com"})
	if err != nil {
		log.Fatal(err)
	}
	challenge, err := queue.Challenge(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("queue %s", challenge.Queue)
}
