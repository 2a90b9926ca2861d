package websocket_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/transporttest"
	"github.com/consignq/consign/transport/websocket"
)

// The suite of transports with faults between the ends, where frames come
// twice in both directions.
func TestFaultyWorker(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%t", json), func(t *testing.T) {
			transporttest.FaultyWorker(t, func(t testing.TB, m *transporttest.Middle, backend consign.WorkerAPI) consign.WorkerAPI {
				url := relay(t, serve(t, websocket.Config{Workers: backend, Silence: time.Second}), func([]byte) int {
					if m.Twice() {
						return 2
					}
					return 1
				})
				return dial(t, websocket.DialConfig{URL: "http://" + m.Addr(strings.TrimPrefix(url, "http://")), JSON: json, Ping: 300 * time.Millisecond})
			})
		})
	}
}
