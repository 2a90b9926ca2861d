package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/consignq/consign"
)

// Each decoder, in both forms: any bytes give a *FieldError, or a value that
// crosses unchanged.

func FuzzQuoteRequest(f *testing.F)   { fuzz(f, carry(NewQuoteRequest, QuoteRequest.Value)) }
func FuzzQuote(f *testing.F)          { fuzz(f, carry(NewQuote, Quote.Value)) }
func FuzzSubmitRequest(f *testing.F)  { fuzz(f, carry(NewSubmitRequest, SubmitRequest.Value)) }
func FuzzJobInfo(f *testing.F)        { fuzz(f, carry(NewJobInfo, JobInfo.Value)) }
func FuzzLogEntry(f *testing.F)       { fuzz(f, carry(NewLogEntry, LogEntry.Value)) }
func FuzzExplanation(f *testing.F)    { fuzz(f, carry(NewExplanation, Explanation.Value)) }
func FuzzKeys(f *testing.F)           { fuzz(f, carry(NewKeys, Keys.Value)) }
func FuzzChallenge(f *testing.F)      { fuzz(f, carry(NewChallenge, Challenge.Value)) }
func FuzzRegistration(f *testing.F)   { fuzz(f, carry(NewRegistration, Registration.Value)) }
func FuzzHeartbeat(f *testing.F)      { fuzz(f, carry(NewHeartbeat, Heartbeat.Value)) }
func FuzzHeartbeatReply(f *testing.F) { fuzz(f, carry(NewHeartbeatReply, HeartbeatReply.Value)) }
func FuzzAssignment(f *testing.F)     { fuzz(f, carry(NewAssignment, Assignment.Value)) }
func FuzzReport(f *testing.F)         { fuzz(f, carry(NewReport, Report.Value)) }
func FuzzCompletion(f *testing.F)     { fuzz(f, carry(NewCompletion, Completion.Value)) }
func FuzzFailure(f *testing.F)        { fuzz(f, carry(NewFailure, Failure.Value)) }
func FuzzRelease(f *testing.F)        { fuzz(f, carry(NewRelease, Release.Value)) }
func FuzzPairing(f *testing.F)        { fuzz(f, carry(NewPairing, Pairing.Value)) }
func FuzzPairingCode(f *testing.F)    { fuzz(f, carry(NewPairingCode, PairingCode.Value)) }

func fuzz(f *testing.F, typ carried) {
	for _, c := range codecs {
		for _, v := range []reflect.Value{typ.filled(), reflect.New(typ.filled().Type()).Elem()} {
			data, err := typ.encode(c, v)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(c), data)
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		first, second, err := typ.decode(codecs[int(codec)%len(codecs)], data)
		if err != nil {
			if bad, ok := errors.AsType[*consign.FieldError](err); !ok || bad.Problem == "" || bad.Remedy == "" {
				t.Errorf("%v, not a *FieldError with a remedy", err)
			}
			return
		}
		if !alike(reflect.ValueOf(first), reflect.ValueOf(second)) {
			t.Errorf("%+v became %+v", first, second)
		}
	})
}

// FuzzProblem: errors come from strangers too.
func FuzzProblem(f *testing.F) {
	for _, c := range codecs {
		for _, err := range []error{consign.ErrBusy, &consign.FieldError{Field: "a", Problem: "b", Remedy: "c"},
			&consign.ReceiptError{Field: "a", Problem: "b", Err: consign.ErrBadResult}, &consign.TransitionError{State: 3, Event: 4}} {
			data, _ := c.Encode(NewProblem(err))
			f.Add(uint8(c), data)
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		var p Problem
		if codecs[int(codec)%len(codecs)].DecodeAnswer(data, &p) == nil && p.Err().Error() == "" {
			t.Error("an error without a text")
		}
	})
}

// FuzzHead: the head of whatever comes is a *FieldError or a frame's, and of
// what Encode wrote it is what the whole says.
func FuzzHead(f *testing.F) {
	for _, c := range codecs {
		for _, v := range []any{Frame{}, Frame{Type: FrameClaim, ID: 1<<64 - 1}, AssignFrame{Frame: Frame{Type: FrameAssign, ID: 7}, Assignment: Assignment{Payload: []byte("x")}},
			TakenFrame{Frame: Frame{Type: FrameAck}, Claim: Claim{Job: consign.JobID{1}}}} {
			data, err := c.Encode(v)
			if err != nil {
				f.Fatal(err)
			}
			head, err := c.DecodeHead(data)
			var whole Frame
			if wrong := c.DecodeAnswer(data, &whole); err != nil || wrong != nil || head != whole {
				f.Errorf("the head of %q is %+v, want %+v (%v, %v)", data, head, whole, err, wrong)
			}
			f.Add(uint8(c), data)
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		_, err := codecs[int(codec)%len(codecs)].DecodeHead(data)
		if bad, ok := errors.AsType[*consign.FieldError](err); err != nil && (!ok || bad.Remedy == "") {
			t.Errorf("%v, not a *FieldError with a remedy", err)
		}
	})
}

// FuzzSplit: a message is refused whole, or is its frames, each of which is one
// value.
func FuzzSplit(f *testing.F) {
	for _, c := range codecs {
		one, _ := c.Encode(TakenFrame{Frame: Frame{Type: FrameAck}, Claim: Claim{Job: consign.JobID{1}}})
		for _, message := range [][]byte{nil, one, append(bytes.Clone(one), one...), append(bytes.Clone(one), 0xc1), bytes.Repeat([]byte{0x80}, MaxFrames), bytes.Repeat([]byte{0x80}, MaxFrames+1)} {
			f.Add(uint8(c), message)
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, message []byte) {
		c := codecs[int(codec)%len(codecs)]
		frames, err := c.Split(nil, message)
		if bad, ok := errors.AsType[*consign.FieldError](err); err != nil {
			if !ok || bad.Remedy == "" {
				t.Errorf("%v, not a *FieldError with a remedy", err)
			}
			return
		}
		if joined := bytes.Join(frames, nil); len(frames) == 0 || len(frames) > MaxFrames || !bytes.Equal(joined, message) {
			t.Errorf("%d frames of %d bytes, of a message of %d", len(frames), len(joined), len(message))
		}
		for _, frame := range frames {
			if c == Msgpack && checkMsgpack(frame, false) != nil {
				t.Errorf("%q is not one value", frame)
			}
		}
	})
}
