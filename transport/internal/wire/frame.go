package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/consignq/consign"
)

// The frames of a WebSocket. A frame is one value: the members of Frame and,
// beside them, those of what the frame carries. In JSON a message is one frame,
// in msgpack one or more, one after the other.

// Frame is what every frame begins with.
type Frame struct {
	Type string `json:"type"`
	// ID is the worker's number for a request; its answer has the same.
	ID uint64 `json:"id,omitempty"`
}

// The types of frames.
const (
	FrameChallenge  = "challenge"     // asks for one, and answers with one
	FrameRegister   = "register"      // answered with registered
	FrameRegistered = "registered"    //
	FrameHeartbeat  = "heartbeat"     // answered with ack
	FrameClaim      = "claim"         // a free slot; answered with job_assign
	FrameAssign     = "job_assign"    //
	FrameReport     = "job_heartbeat" // answered with ack, as are the next four
	FrameComplete   = "job_complete"  //
	FrameFail       = "job_fail"      //
	FrameRelease    = "job_release"   //
	FrameCancel     = "cancel"        // takes the request of its ID back; not answered itself
	FrameJobCancel  = "job_cancel"    // stop the job: its claim is over
	FramePing       = "ping"          // shows that the worker is there; answered with ack
	FramePair       = "pair"          // answered with paired
	FramePaired     = "paired"        //
	FrameAck        = "ack"           // it is done; of a worker: it has the job
	FrameError      = "error"         //
)

// MaxFrames is how many frames a message may have.
const MaxFrames = 256

// Split cuts a message into its frames, and appends them to frames. It returns a *consign.FieldError where
// there is none, or anything beside well-formed ones: such a message is refused
// whole.
func (c Codec) Split(frames [][]byte, message []byte) ([][]byte, error) {
	if c == JSON {
		return append(frames, message), nil
	}
	rest := message
	for n := 0; len(rest) > 0 || n == 0; n++ {
		if n == MaxFrames {
			return nil, unreadable(fmt.Sprintf("has more than %d frames", MaxFrames), "send fewer in a message")
		}
		next, err := skipMsgpack(rest, false)
		if err != nil {
			return nil, unreadable("is not msgpack: "+err.Error(), "send one msgpack value for each frame")
		}
		frames = append(frames, rest[:len(rest)-len(next)])
		rest = next
	}
	return frames, nil
}

// DecodeHead reads what a frame begins with, to tell how to read the whole: the
// rest may be long, and is looked at only where the head is not in front, as
// Encode puts it. It returns a *consign.FieldError.
func (c Codec) DecodeHead(data []byte) (Frame, error) {
	f, ok := c.peek(data)
	if ok {
		return f, nil
	}
	var whole Frame
	err := c.DecodeAnswer(data, &whole)
	return whole, err
}

// peek reads a head that is in front.
func (c Codec) peek(data []byte) (f Frame, ok bool) {
	if c == Msgpack {
		return peekMsgpack(data)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var tokens [5]json.Token
	for i := range tokens {
		var err error
		if tokens[i], err = dec.Token(); err != nil {
			return f, false
		}
	}
	name, isText := tokens[2].(string)
	id, isNumber := tokens[4].(json.Number)
	if tokens[0] != json.Delim('{') || tokens[1] != "type" || !isText || tokens[3] != "id" || !isNumber {
		return f, false
	}
	n, err := strconv.ParseUint(id.String(), 10, 64)
	return Frame{name, n}, err == nil
}

func peekMsgpack(data []byte) (f Frame, ok bool) {
	_, values, isMap, err := msgpackHead(&data)
	if err != nil || !isMap || values < 4 {
		return f, false
	}
	if name, ok := cutText(&data); !ok || string(name) != "type" {
		return f, false
	}
	kind, ok := cutText(&data)
	if !ok {
		return f, false
	}
	if name, ok := cutText(&data); !ok || string(name) != "id" || len(data) == 0 {
		return f, false
	}
	c := data[0]
	data = data[1:]
	switch {
	case c <= 0x7f:
		f.ID = uint64(c)
	case c >= 0xcc && c <= 0xcf: // of 1, 2, 4 and 8 bytes
		if f.ID, err = cut(&data, 1<<(c-0xcc)); err != nil {
			return f, false
		}
	default:
		return f, false
	}
	f.Type = frameType(kind)
	return f, true
}

// frameType is the type of a frame as text, which the usual ones have already.
func frameType(name []byte) string {
	switch string(name) {
	case FrameClaim:
		return FrameClaim
	case FrameAssign:
		return FrameAssign
	case FrameComplete:
		return FrameComplete
	case FrameAck:
		return FrameAck
	}
	return string(name)
}

// cutText cuts a string of less than 256 bytes off data.
func cutText(data *[]byte) (text []byte, ok bool) {
	if len(*data) == 0 {
		return nil, false
	}
	c := (*data)[0]
	if c&0xe0 != 0xa0 && c != 0xd9 {
		return nil, false
	}
	n, _, _, err := msgpackHead(data)
	if err != nil || n > uint64(len(*data)) {
		return nil, false
	}
	text, *data = (*data)[:n], (*data)[n:]
	return text, true
}

// ChallengeFrame answers a request for a challenge.
type ChallengeFrame struct {
	Frame
	Challenge
}

// RegisterFrame opens the session.
type RegisterFrame struct {
	Frame
	Registration
}

// RegisteredFrame says under which ID.
type RegisteredFrame struct {
	Frame
	Worker consign.WorkerID `json:"worker_id"`
}

// HeartbeatFrame carries a heartbeat.
type HeartbeatFrame struct {
	Frame
	Heartbeat
}

// HeartbeatAckFrame answers one.
type HeartbeatAckFrame struct {
	Frame
	HeartbeatReply
}

// AssignFrame carries a job to a worker.
type AssignFrame struct {
	Frame
	Assignment
}

// TakenFrame says that the worker has a job: its end of the connection is no
// longer needed for the job not to be lost.
type TakenFrame struct {
	Frame
	Claim
}

// ReportFrame carries a report. Lines are log lines, for those who would rather
// write text.
type ReportFrame struct {
	Frame
	Report
	Lines []string `json:"lines,omitempty"`
}

// CompleteFrame carries a completion.
type CompleteFrame struct {
	Frame
	Completion
}

// FailFrame carries a failure.
type FailFrame struct {
	Frame
	Failure
}

// ReleaseFrame carries a release.
type ReleaseFrame struct {
	Frame
	Release
}

// PairFrame carries a pairing code.
type PairFrame struct {
	Frame
	Code string `json:"code"`
}

// PairedFrame answers it.
type PairedFrame struct {
	Frame
	Pairing
}

// ErrorFrame says why a request was refused, or what was wrong with a frame
// that is no request.
type ErrorFrame struct {
	Frame
	Error Problem `json:"error"`
}
