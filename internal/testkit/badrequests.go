package testkit

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// BadRequest is an HTTP request that no queue may carry out: it has to be
// answered with a 4xx that says what is wrong, and changes nothing.
type BadRequest struct {
	Method, Path, Token, ContentType, Body string
	Why                                    string
	Status                                 int    // of the answer; 0: any 4xx
	Code                                   string // likewise
}

// HTTPTargets is what bad requests are about.
type HTTPTargets struct {
	Job, Claim, Worker        string // a job that the worker holds
	OldClaim                  string // under which the rival held it before
	Account, Foreign, Session string // tokens: the job's owner's, another account's, the worker's
	Rival                     string // the token of another worker, which holds nothing
	Registration              string // the body of a registration that was carried out
}

// endpoint is a request that would be good, but for one thing.
type endpoint struct {
	method, path, token string
	body                map[string]any // nil: none
	free                []string       // members that take any JSON value
	owned               bool           // by the account that owns the job
}

// claimed reports whether it says something of a claim.
func (e endpoint) claimed() bool {
	_, ok := e.body["claim_id"]
	return ok
}

// BadRequests makes every endpoint's requests wrong in every way that it can
// think of.
func BadRequests(t HTTPTargets) []BadRequest {
	var bad []BadRequest
	for _, e := range endpoints(t) {
		bad = append(bad, e.spoiled(t)...)
	}
	for _, path := range []string{"/", "/v1", "/v1/job", "/v2/jobs", "/v1/jobs/commit", "/v1/jobs/commit/free", "/v1/workers", "/v1/jobs//events", "/v1/%2e%2e/etc/passwd", "/v1/jobs/%00", "/favicon.ico"} {
		bad = append(bad, BadRequest{Method: "GET", Path: path, Token: t.Account, Why: "no such path"})
	}
	return append(bad, BadRequest{Method: "POST", Path: "/v1/workers/register", ContentType: "application/json", Body: t.Registration, Why: "replayed", Status: 400, Code: "invalid_field"})
}

func endpoints(t HTTPTargets) []endpoint {
	capabilities := map[string]any{"kinds": []any{"TASK"}, "models": []any{"m"}, "max_context_tier": 4, "hardware_tier": 1, "vram_mib": 1, "docker": false, "encryption": false, "labels": map[string]any{}, "slots": 1}
	submit := map[string]any{"job_type": "TASK", "payload": "eA==", "custody": "plain", "model": "m", "payload_hash": strings.Repeat("00", 32), "chars": 1, "prompt_bytes": 1,
		"header": "", "client_pubkey": "", "wraps": []any{}, "signature": "", "privacy_class": "PUBLIC", "policy": "AUTO", "priority": "low", "hardware_tier": 1, "vram_mib": 1,
		"labels": map[string]any{}, "comparator": "exact", "delay_ns": 1, "queue_time_ns": 1, "deadline_ns": 9, "max_attempts": 1}
	commit := map[string]any{"job_type": "TASK", "payload": "x", "model": "m", "allow_plain": true, "hardware_tier": 1, "vram_mib": 1, "labels": map[string]any{}, "priority": "low",
		"deadline_seconds": 1, "privacy_class": "PUBLIC", "client_pubkey": "", "webhook": "", "quote_id": ""}
	claim := map[string]any{"claim_id": t.Claim, "job_id": t.Job}
	with := func(more map[string]any) map[string]any {
		m := maps.Clone(claim)
		maps.Copy(m, more)
		return m
	}
	job, worker := "/v1/jobs/"+t.Job, "/v1/workers/"+t.Worker
	return []endpoint{
		{"POST", "/v1/jobs/commit/fast", t.Account, commit, []string{"payload"}, false},
		{"POST", "/v1/jobs/commit/cheap", t.Account, commit, []string{"payload"}, false},
		{"POST", "/v1/jobs", t.Account, submit, nil, false},
		{"POST", "/v1/jobs/batch", t.Account, map[string]any{"jobs": []any{}}, nil, false},
		{"GET", job, t.Account, nil, nil, true},
		{"GET", job + "/events", t.Account, nil, nil, true},
		{"GET", job + "/explain", t.Account, nil, nil, true},
		{"GET", job + "/receipt", t.Account, nil, nil, true},
		{"DELETE", job, t.Account, nil, nil, true},
		{"POST", job + "/ack", t.Account, nil, nil, true},
		{"GET", "/v1/keys", t.Account, nil, nil, false},
		{"GET", "/v1/quote?job_type=TASK", t.Account, nil, nil, false},
		{"POST", "/v1/trust/pairings", t.Account, map[string]any{"submitter_pubkey": ""}, nil, false},
		{"GET", "/v1/trust/pairings", t.Account, nil, nil, false},
		{"POST", "/v1/trust/pairings/" + t.Worker + "/confirm", t.Account, map[string]any{"fingerprint": "x"}, nil, false},
		{"DELETE", "/v1/trust/pairings/" + t.Worker, t.Account, nil, nil, false},
		{"POST", "/v1/trust/pairings/claim", t.Session, map[string]any{"code": "x"}, nil, false},
		{"POST", "/v1/workers/register", "", map[string]any{"algorithm": "ed25519", "public_key": "", "origin": "x", "nonce": "", "signature": "", "key_bundle": "", "capabilities": capabilities}, nil, false},
		{"POST", worker + "/heartbeat", t.Session, map[string]any{"capabilities": capabilities, "free_slots": 1, "warm": []any{}, "max_warm": 1, "rates": map[string]any{}, "claims": []any{}}, nil, false},
		{"POST", worker + "/claim", t.Session, map[string]any{"request_id": "x"}, nil, false},
		{"POST", worker + "/claims", t.Session, map[string]any{"request_ids": []any{"x"}, "abandon": []any{}, "poll": 1, "pending": 1}, nil, false},
		{"POST", worker + "/completions", t.Session, map[string]any{"completions": []any{}}, nil, false},
		{"POST", job + "/heartbeat", t.Session, with(map[string]any{"items": []any{}, "lines": []any{}}), nil, false},
		{"POST", job + "/complete", t.Session, with(map[string]any{"result": "", "exit_status": 1, "record": "", "comparison": map[string]any{}}), nil, false},
		{"POST", job + "/fail", t.Session, with(map[string]any{"kind": "transient", "reason": "x"}), nil, false},
		{"POST", job + "/release", t.Session, with(map[string]any{"reason": "x"}), nil, false},
	}
}

// wrong are values of every JSON type, and some that a type has and a field
// does not.
var wrong = []any{true, "\u0000 no such thing", -1, 1.5, 1e300, json.RawMessage("123456789012345678901234567890"), []any{[]any{}}, []any{1.5}, []any{true}, []any{map[string]any{"x": 1}}, map[string]any{"x": map[string]any{}}}

// tolerated are wrong values that are right for a member all the same.
func tolerated(name string, good, value any) bool {
	switch good.(type) {
	case string:
		_, isText := value.(string)
		// Free text: whatever is UTF-8 may stand there, or it is looked at later.
		return isText && slices.Contains([]string{"reason", "origin", "request_id"}, name)
	case bool:
		_, isBool := value.(bool)
		return isBool
	case map[string]any:
		return false
	}
	switch name {
	case "exit_status":
		return value == -1
	case "deadline_seconds":
		return value == 1.5
	}
	return false
}

func (e endpoint) spoiled(t HTTPTargets) (bad []BadRequest) {
	add := func(why string, change func(*BadRequest)) {
		r := BadRequest{Method: e.method, Path: e.path, Token: e.token, Why: why}
		if e.body != nil {
			r.ContentType, r.Body = "application/json", encode(e.body)
		}
		change(&r)
		bad = append(bad, r)
	}
	for _, method := range []string{"PUT", "PATCH", "TRACE", "BREW"} {
		add("method", func(r *BadRequest) { r.Method = method })
	}
	for _, path := range []string{strings.Replace(e.path, t.Job, "xyz", 1), strings.Replace(e.path, t.Job, t.Job+"0", 1), strings.Replace(e.path, t.Job, "11111111-1111-4111-8111-111111111111", 1),
		strings.Replace(e.path, t.Worker, strings.Repeat("ab", 32), 1), strings.Replace(e.path, t.Worker, "x", 1)} {
		// A pairing that is not there is revoked already.
		if path != e.path && !(e.method == "DELETE" && strings.Contains(path, "abab")) {
			add("path", func(r *BadRequest) { r.Path = path })
		}
	}
	if e.token != "" {
		for _, token := range []string{"", "x", t.Claim, strings.Repeat("a", 8000)} {
			add("token", func(r *BadRequest) { r.Token = token })
		}
		other := t.Account
		if e.token == t.Account {
			other = t.Session
		}
		add("token of the other face", func(r *BadRequest) { r.Token = other })
	}
	if e.owned {
		add("owner", func(r *BadRequest) { r.Token, r.Status, r.Code = t.Foreign, 404, "not_found" })
	}
	if strings.HasPrefix(e.path, "/v1/workers/"+t.Worker) {
		add("another worker's path", func(r *BadRequest) { r.Token, r.Status, r.Code = t.Rival, 404, "not_found" })
	}
	if e.claimed() {
		for why, claim := range map[string]string{"another worker's claim": t.Claim, "a claim that is over": t.OldClaim, "a claim that never was": strings.Repeat("5a", 16)} {
			for _, token := range []string{t.Session, t.Rival} {
				if claim == t.Claim && token == t.Session {
					continue // that is right
				}
				add(why, func(r *BadRequest) {
					m := maps.Clone(e.body)
					m["claim_id"] = claim
					delete(m, "record") // else a queue without receipts says so
					delete(m, "comparison")
					r.Body, r.Token, r.Status, r.Code = encode(m), token, 409, "lease_lost"
				})
			}
		}
	}
	if e.body == nil {
		return bad
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/msgpack", "application/json/x", ";"} {
		add("content type", func(r *BadRequest) { r.ContentType = kind })
	}
	whole := encode(e.body)
	for i := range 32 {
		add("truncated", func(r *BadRequest) { r.Body = whole[:len(whole)*i/32] })
	}
	for _, body := range []string{"null", "true", "7", `"x"`, "[]", "[{}]", whole + whole, whole + "x", "\xff" + whole, "{\"\xff\":1}", whole[:len(whole)-1] + `,"no_such_member":1}`,
		strings.Repeat("[", 5000), strings.Repeat(`{"payload":`, 5000), "{" + strings.Repeat(" ", 1<<10), "\x00", "\xef\xbb\xbf" + whole} {
		if body == "null" && slices.Contains([]string{"claim", "claims", "completions", "batch"}, path.Base(e.path)) {
			continue // as good as {}
		}
		add("body", func(r *BadRequest) { r.Body = body })
	}
	if _, ok := e.body["job_id"]; ok {
		add("job_id: not the path's", func(r *BadRequest) {
			m := maps.Clone(e.body)
			m["job_id"] = "11111111-1111-4111-8111-111111111111"
			r.Body = encode(m)
		})
	}
	for _, name := range slices.Sorted(maps.Keys(e.body)) {
		if slices.Contains(e.free, name) {
			continue
		}
		for _, value := range wrong {
			if tolerated(name, e.body[name], value) {
				continue
			}
			add(fmt.Sprintf("%s: %v", name, value), func(r *BadRequest) {
				m := maps.Clone(e.body)
				m[name] = value
				r.Body = encode(m)
			})
		}
		if inner, ok := e.body[name].(map[string]any); ok {
			for _, in := range slices.Sorted(maps.Keys(inner)) {
				for _, value := range wrong {
					if tolerated(in, inner[in], value) {
						continue
					}
					add(fmt.Sprintf("%s.%s: %v", name, in, value), func(r *BadRequest) {
						m, n := maps.Clone(e.body), maps.Clone(inner)
						n[in] = value
						m[name] = n
						r.Body = encode(m)
					})
				}
			}
		}
	}
	return bad
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the tables above
	}
	return string(b)
}
