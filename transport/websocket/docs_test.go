package websocket

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// section returns the part of docs/wire-protocol.md under a heading, and the
// lines of its JSON blocks.
func section(t *testing.T, heading string) (text string, frames [][]byte) {
	t.Helper()
	page, err := os.ReadFile("../../docs/wire-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("there is no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for i, block := range strings.Split(text, "```") {
		if body, ok := strings.CutPrefix(block, "json\n"); ok && i%2 == 1 {
			for line := range strings.Lines(body) {
				frames = append(frames, []byte(strings.TrimSpace(line)))
			}
		}
	}
	return text, frames
}

// isFrame says how a line is not a frame of the type of v: it has members that
// v does not have, or in another form than v writes them.
func isFrame(line []byte, v any) error {
	if err := wire.JSON.Decode(line, v); err != nil {
		return err
	}
	written, err := wire.JSON.Encode(v)
	if err != nil {
		return err
	}
	var want, got map[string]json.RawMessage
	if err := json.Unmarshal(line, &want); err != nil {
		return err
	}
	if err := json.Unmarshal(written, &got); err != nil {
		return err
	}
	for name, value := range want {
		if !bytes.Equal(compact(value), compact(got[name])) {
			return fieldError(name, "is "+string(value), "write "+string(got[name]))
		}
	}
	return nil
}

func compact(value []byte) []byte {
	var buf bytes.Buffer
	_ = json.Compact(&buf, value) // it was read
	return buf.Bytes()
}

// The frames of the page are frames, and each type of frame is there.
func TestFramesOfThePage(t *testing.T) {
	text, frames := section(t, "WebSocket")
	seen := map[string]bool{}
	for _, line := range frames {
		var f wire.Frame
		if err := wire.JSON.DecodeAnswer(line, &f); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		seen[f.Type] = true
		forms := map[string][]any{
			wire.FrameChallenge: {&wire.Frame{}, &wire.ChallengeFrame{}}, wire.FrameRegister: {&wire.RegisterFrame{}}, wire.FrameRegistered: {&wire.RegisteredFrame{}},
			wire.FrameHeartbeat: {&wire.HeartbeatFrame{}}, wire.FrameClaim: {&wire.Frame{}}, wire.FrameAssign: {&wire.AssignFrame{}},
			wire.FrameReport: {&wire.ReportFrame{}}, wire.FrameComplete: {&wire.CompleteFrame{}}, wire.FrameFail: {&wire.FailFrame{}}, wire.FrameRelease: {&wire.ReleaseFrame{}},
			wire.FrameCancel: {&wire.Frame{}}, wire.FramePing: {&wire.Frame{}}, wire.FramePair: {&wire.PairFrame{}}, wire.FramePaired: {&wire.PairedFrame{}},
			wire.FrameAck: {&wire.Frame{}, &wire.HeartbeatAckFrame{}, &wire.TakenFrame{}}, wire.FrameError: {&wire.ErrorFrame{}},
		}[f.Type]
		var err error
		for _, form := range forms {
			if err = isFrame(line, form); err == nil {
				break
			}
		}
		if forms == nil || err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, kind := range []string{wire.FrameChallenge, wire.FrameRegister, wire.FrameRegistered, wire.FrameHeartbeat, wire.FrameClaim, wire.FrameAssign, wire.FrameReport, wire.FrameComplete,
		wire.FrameFail, wire.FrameRelease, wire.FrameCancel, wire.FramePing, wire.FramePair, wire.FramePaired, wire.FrameAck, wire.FrameError} {
		if !seen[kind] || !strings.Contains(text, "`"+kind+"`") {
			t.Errorf("the page lacks %s", kind)
		}
	}
	if isFrame([]byte(`{"type":"ping","payload":1}`), &wire.Frame{}) == nil || isFrame([]byte(`{"type":"registered","worker_id":""}`), &wire.RegisteredFrame{}) == nil {
		t.Error("anything is a frame")
	}
}

// The frames of foreign workers likewise, and the page's receipt verifies.
func TestForeignFramesOfThePage(t *testing.T) {
	_, frames := section(t, "Foreign workers")
	seen := map[string]bool{}
	for _, line := range frames {
		var head struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(line, &head); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[head.Type] = true
		var err error
		switch head.Type {
		case wire.FrameAssign:
			err = isFrame(line, &foreignAssign{})
		case wire.FrameRegistered, wire.FrameAck, wire.FrameJobCancel, wire.FrameError:
			err = isFrame(line, &foreignAnswer{})
		default:
			in := foreignFrame{}
			if err = wire.JSON.Decode(line, &in); err == nil && in.Type == wire.FrameComplete {
				key := []byte{0x90, 0x20, 0x26, 0xf9, 0x37, 0x74, 0x44, 0xd0, 0x3b, 0x50, 0xbc, 0x0d, 0xc9, 0x87, 0x77, 0xd1, 0x96, 0x63, 0x29, 0xdb, 0xc4, 0xe6, 0xe4, 0x29, 0x06, 0xce, 0x16, 0xe1, 0x80, 0x40, 0x68, 0x46}
				receipt := consign.ForeignReceipt{JSON: in.Receipt.JSON, Signature: in.Receipt.Signature}
				err = receipt.Verify(consign.ForeignWorkerID(key), in.Job, []byte("hello"))
			}
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, kind := range []string{wire.FrameRegister, wire.FrameRegistered, wire.FrameHeartbeat, wire.FrameAck, wire.FrameAssign, wire.FrameReport, wire.FrameComplete, wire.FrameFail,
		wire.FrameRelease, wire.FrameJobCancel, wire.FrameError} {
		if !seen[kind] {
			t.Errorf("the page lacks %s", kind)
		}
	}
}
