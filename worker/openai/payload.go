package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/strictjson"
	"github.com/consignq/consign/worker"
)

// Bounds of a payload.
const (
	// MaxPayload is the largest payload in bytes.
	MaxPayload = 4 << 20
	// DefaultMaxTokens is max_tokens where the payload has none. It is the same
	// everywhere, since results are compared between workers.
	DefaultMaxTokens = 1024
	// MaxTokens is the largest max_tokens.
	MaxTokens = 1 << 17

	maxMessages = 1024
	maxStops    = 4 // as OpenAI has it
	maxStop     = 256
	maxSeed     = 1<<31 - 1
)

// request is a decoded payload.
type request struct {
	messages []message
	raw      bool // the only message is continued as it is, without a template

	maxTokens   int
	temperature float64
	topP        float64
	seed        *int64
	stop        []string
	schema      *schema

	bytes int // of all contents
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// parse reads a payload: JSON if it starts with "{", else the prompt itself.
// Its errors are the job's fault and name the field.
func parse(payload []byte) (*request, error) {
	r := &request{maxTokens: DefaultMaxTokens, topP: 1}
	if len(payload) > MaxPayload {
		return nil, bad("payload", fmt.Sprintf("has %d bytes", len(payload)), fmt.Sprintf("send at most %d", MaxPayload))
	}
	if !utf8.Valid(payload) {
		return nil, bad("payload", "is not valid UTF-8", "encode it as UTF-8")
	}
	text := bytes.TrimSpace(payload)
	if len(text) == 0 {
		return nil, bad("payload", "is empty", "send a prompt")
	}
	if text[0] != '{' {
		r.messages = []message{{"user", string(payload)}}
	} else if err := r.object(text); err != nil {
		return nil, err
	}
	for _, m := range r.messages {
		r.bytes += len(m.Content)
	}
	return r, nil
}

// object reads the JSON form.
func (r *request) object(data []byte) error {
	seen := map[string]bool{}
	err := strictjson.Object(data, func(key string, value []byte) error {
		seen[key] = true
		return r.member(key, value)
	})
	if err != nil {
		if worked(err) {
			return err
		}
		return bad("payload", "is not a JSON object: "+err.Error(), `send {"prompt":"..."}, or a text that does not start with "{"`)
	}
	switch {
	case seen["prompt"] == seen["messages"]:
		return bad("payload", "needs either prompt or messages", `send {"prompt":"..."} or {"messages":[...]}`)
	case r.raw && seen["messages"]:
		return bad("raw", "is for a prompt", "send a prompt, or leave raw out")
	case r.raw && r.schema != nil:
		return bad("json_schema", "is not for a raw prompt", "leave raw out")
	case r.temperature == 0:
		r.topP, r.seed = 1, nil // the likeliest token is taken, whatever they are
	}
	return nil
}

func (r *request) member(key string, value []byte) (err error) {
	switch key {
	case "prompt":
		var s string
		if s, err = text(key, value); err == nil {
			r.messages = []message{{"user", s}}
		}
	case "messages":
		r.messages, err = messages(value)
	case "raw":
		err = decode(key, value, &r.raw, "true or false")
	case "max_tokens":
		r.maxTokens, err = number(key, value, 1, MaxTokens)
	case "temperature":
		r.temperature, err = number(key, value, 0.0, 2.0)
	case "top_p":
		if r.topP, err = number(key, value, 0.0, 1.0); err == nil && r.topP == 0 {
			err = bad(key, "is 0", "send a number above 0; for the likeliest token send a temperature of 0")
		}
	case "seed":
		var seed int64
		seed, err = number(key, value, int64(0), maxSeed)
		r.seed = &seed
	case "stop":
		r.stop, err = stops(value)
	case "json_schema":
		r.schema, err = readSchema(value)
	case "model":
		err = bad(key, "is not part of the payload", "name the model in the job")
	case "stream":
		err = bad(key, "is not part of the payload", "leave it out: parts are streamed to whoever follows the job")
	case "max_completion_tokens", "num_predict":
		err = bad(key, "is not a field", "send max_tokens")
	case "response_format", "format":
		err = bad(key, "is not a field", `send "json_schema": {...}, the schema itself`)
	default:
		err = bad(strconv.Quote(cut(key, 60)), "is not a field", "remove it, or check its spelling: prompt, messages, raw, max_tokens, temperature, top_p, seed, stop, json_schema")
	}
	return err
}

func messages(data []byte) ([]message, error) {
	var all []message
	err := strictjson.Array(data, func(value []byte) error {
		field := fmt.Sprintf("messages[%d]", len(all))
		if len(all) == maxMessages {
			return bad("messages", fmt.Sprintf("has more than %d elements", maxMessages), "send fewer")
		}
		m, err := oneMessage(field, value)
		all = append(all, m)
		return err
	})
	switch {
	case worked(err):
		return nil, err
	case err != nil:
		return nil, bad("messages", "is not an array", `send [{"role":"user","content":"..."}]`)
	case len(all) == 0 || all[len(all)-1].Role != "user":
		return nil, bad("messages", "does not end with the user's turn", `end it with {"role":"user","content":"..."}`)
	}
	return all, nil
}

func oneMessage(field string, value []byte) (m message, err error) {
	err = strictjson.Object(value, func(key string, value []byte) (err error) {
		switch key {
		case "role":
			m.Role, err = text(field+".role", value)
		case "content":
			m.Content, err = text(field+".content", value)
		default:
			err = bad(field+"."+strconv.Quote(cut(key, 60)), "is not a field", "send role and content, as text, only")
		}
		return err
	})
	switch {
	case worked(err):
		return m, err
	case err != nil:
		return m, bad(field, "is not an object: "+err.Error(), `send {"role":"user","content":"..."}`)
	case !slices.Contains([]string{"system", "user", "assistant"}, m.Role):
		return m, bad(field+".role", "is "+strconv.Quote(cut(m.Role, 60)), "send system, user or assistant")
	case m.Content == "":
		return m, bad(field+".content", "is missing", "send the text")
	}
	return m, nil
}

// stops reads one stop sequence or several.
func stops(data []byte) ([]string, error) {
	if s, err := strictjson.String(data); err == nil {
		data, _ = json.Marshal([]string{s})
	}
	var all []string
	err := strictjson.Array(data, func(value []byte) error {
		s, err := strictjson.String(value)
		if err == nil && (s == "" || len(s) > maxStop) {
			err = bad("stop", fmt.Sprintf("has a sequence of %d bytes", len(s)), fmt.Sprintf("send 1 to %d bytes", maxStop))
		}
		all = append(all, s)
		return err
	})
	switch {
	case worked(err):
		return nil, err
	case err != nil || len(all) > maxStops:
		return nil, bad("stop", fmt.Sprintf("is not a string or an array of up to %d strings", maxStops), `send "stop": ["..."]`)
	}
	return all, nil
}

// text reads a string that holds more than spaces.
func text(field string, value []byte) (string, error) {
	s, err := strictjson.String(value)
	switch {
	case err != nil:
		return "", bad(field, "is not a string", "send a string")
	case strings.TrimSpace(s) == "":
		return "", bad(field, "is empty", "send a text")
	}
	return s, nil
}

func number[T int | int64 | float64](field string, value []byte, low, high T) (T, error) {
	want := fmt.Sprintf("a number from %v to %v", low, high)
	var n T
	if err := decode(field, value, &n, want); err != nil {
		return 0, err
	}
	if n < low || n > high {
		return 0, bad(field, fmt.Sprintf("is %v", n), "send "+want)
	}
	return n, nil
}

func decode(field string, value []byte, v any, want string) error {
	if string(value) == "null" || json.Unmarshal(value, v) != nil {
		return bad(field, "has the wrong type", "send "+want)
	}
	return nil
}

// bad says that the job itself is at fault.
func bad(field, problem, remedy string) error {
	return fmt.Errorf("%w: %w", worker.ErrPayload, &consign.FieldError{Field: "LLM_INFER." + field, Problem: problem, Remedy: remedy})
}

// sampling describes how tokens are drawn: what of a request decides whether
// two results may be compared. The seed itself need not be in it, since only
// results of one job are compared.
func (r *request) sampling() string {
	if r.temperature == 0 {
		return "greedy"
	}
	seeded := "unseeded"
	if r.seed != nil {
		seeded = "seeded"
	}
	return fmt.Sprintf("temperature=%v,top_p=%v,%s", r.temperature, r.topP, seeded)
}

// cut shortens a stranger's text.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
