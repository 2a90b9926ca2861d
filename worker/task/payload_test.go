package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every bad payload is the job's fault and names the field.
func TestPayloadErrors(t *testing.T) {
	big := strings.Repeat("a", MaxText+1)
	for _, tc := range []struct{ name, payload, field string }{
		{"empty", ``, "payload"},
		{"not JSON", `{"task"`, "payload"},
		{"not an object", `["summarize"]`, "payload"},
		{"null", `null`, "payload"},
		{"trailing data", `{"task":"summarize","text":"a"} {}`, "payload"},
		{"trailing comma", `{"task":"summarize","text":"a",}`, "payload"},
		{"invalid UTF-8", "{\"task\":\"summarize\",\"text\":\"\xff\"}", "payload"},
		{"half a surrogate pair", `{"task":"summarize","text":"\ud83d"}`, "payload"},
		{"low half first", `{"task":"summarize","text":"\ude00\ud83d"}`, "payload"},
		{"too deep", `{"task":"summarize","text":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "payload"},
		{"too large", strings.Repeat(" ", MaxPayload+1), "payload"},
		{"duplicate key", `{"task":"summarize","text":"a","text":"b"}`, "text"},
		{"duplicate key, escaped", `{"task":"summarize","text":"a","\u0074ext":"b"}`, "text"},
		{"duplicate key inside", `{"task":"classify","text":"a","labels":{"x":[],"x":[]}}`, "labels.x"},
		{"no task", `{"text":"a"}`, "task"},
		{"unknown task", `{"task":"translate","text":"a"}`, "task"},
		{"task of another case", `{"task":"Summarize","text":"a"}`, "task"},
		{"no text", `{"task":"summarize"}`, "text"},
		{"null text", `{"task":"summarize","text":null}`, "text"},
		{"blank text", `{"task":"summarize","text":" \n"}`, "text"},
		{"text of another type", `{"task":"summarize","text":1}`, "text"},
		{"oversize text", `{"task":"summarize","text":"` + big + `"}`, "text"},
		{"unknown field", `{"task":"summarize","text":"a","sentense":1}`, "sentense"},
		{"field of another case", `{"task":"summarize","text":"a","Sentences":1}`, "Sentences"},
		{"field of another task", `{"task":"extract","text":"a","sentences":1}`, "sentences"},
		{"no sentences", `{"task":"summarize","text":"a","sentences":0}`, "sentences"},
		{"many sentences", `{"task":"summarize","text":"a","sentences":101}`, "sentences"},
		{"a fraction", `{"task":"summarize","text":"a","max_chars":1.5}`, "max_chars"},
		{"bad format", `{"task":"summarize","text":"a","format":"html"}`, "format"},
		{"bad language", `{"task":"summarize","text":"a","language":"English"}`, "language"},
		{"bad by", `{"task":"classify","text":"a","by":"mood"}`, "by"},
		{"one label", `{"task":"classify","text":"a","labels":["x"]}`, "labels"},
		{"label twice", `{"task":"classify","text":"a","labels":["x","x"]}`, "labels"},
		{"label without name", `{"task":"classify","text":"a","labels":["x",""]}`, "labels"},
		{"labels of another type", `{"task":"classify","text":"a","labels":{"x":1}}`, "labels"},
		{"empty keyword", `{"task":"classify","text":"a","labels":{"x":[""],"y":[]}}`, "labels.x"},
		{"empty examples", `{"task":"classify","text":"a","examples":{"x":[],"y":["a"]}}`, "examples.x"},
		{"topic without labels", `{"task":"classify","by":"topic","text":"a"}`, "labels"},
		{"foreign sentiment", `{"task":"classify","by":"sentiment","text":"a","labels":["glad"]}`, "labels"},
		{"language with labels", `{"task":"classify","by":"language","text":"a","labels":["de","en"]}`, "by"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			result, err := Run(context.Background(), []byte(tc.payload))
			var p *PayloadError
			if !errors.As(err, &p) {
				t.Fatalf("got %s, %v; want a *PayloadError", result, err)
			}
			if p.Field != tc.field || p.Problem == "" || p.Remedy == "" {
				t.Errorf("got %v; want field %s with problem and remedy", err, tc.field)
			}
		})
	}
}

func TestSurrogatePairsAreText(t *testing.T) {
	for _, text := range []string{`\ud83d\ude00 fine`, `\\ud83d is an escape`, `\u00e9\n\"\\`} {
		if _, err := Run(context.Background(), fmt.Appendf(nil, `{"task":"summarise","text":"%s"}`, text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A schema is a stranger's program: it must not load, loop or explode.
func TestSchemaErrors(t *testing.T) {
	bomb := `{"type":"string"}`
	defs := `"d0":` + bomb
	for i := range 30 {
		defs += fmt.Sprintf(`,"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i+1, i, i)
	}
	for name, schema := range map[string]string{
		"remote":             `{"$ref":"http://127.0.0.1:1/x"}`,
		"file":               `{"$ref":"file:///etc/passwd"}`,
		"remote metaschema":  `{"$schema":"http://127.0.0.1:1/x"}`,
		"recursive":          `{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/a"}}}}`,
		"root":               `{"properties":{"a":{"$ref":"#"}}}`,
		"dangling":           `{"$ref":"#/$defs/a"}`,
		"dynamic":            `{"$dynamicRef":"#a"}`,
		"nested $id":         `{"properties":{"a":{"$id":"http://x/","$ref":"#/$defs/b"}}}`,
		"exponential":        `{"$ref":"#/$defs/d30","$defs":{` + defs + `}}`,
		"bad type":           `{"type":"objec"}`,
		"bad pattern":        `{"pattern":"("}`,
		"backreference":      `{"pattern":"(a)\\1"}`,
		"long pattern":       `{"pattern":"` + strings.Repeat("a", maxPattern+1) + `"}`,
		"exploding pattern":  `{"pattern":"((a{1000}){1000}){1000}"}`,
		"large":              `{"description":"` + strings.Repeat("a", MaxSchema) + `"}`,
		"a boolean":          `true`,
		"bad draft 4 id":     `{"$schema":"http://json-schema.org/draft-04/schema#","items":{"id":"http://x/"}}`,
		"reference in array": `{"allOf":[{"type":"string"}],"$ref":"#/allOf/0"}`,
	} {
		t.Run(name, func(t *testing.T) {
			result, err := Run(context.Background(), []byte(`{"task":"extract","text":"a","schema":`+schema+`}`))
			var p *PayloadError
			if !errors.As(err, &p) || p.Field != "schema" {
				t.Errorf("got %s, %v; want a *PayloadError on schema", result, err)
			}
		})
	}
}

func TestSchemaDrafts(t *testing.T) {
	for _, draft := range []string{
		"http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-06/schema#",
		"http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema",
		"https://json-schema.org/draft/2020-12/schema",
	} {
		payload := `{"task":"extract","text":"Name: Ada","schema":{"$schema":"` + draft + `","$id":"https://example.org/p",
			"type":"object","required":["name"],"properties":{"name":{"$ref":"#/definitions/n"}},"definitions":{"n":{"type":"string"}}}}`
		result, err := Run(context.Background(), []byte(payload))
		if err != nil || !strings.Contains(string(result), `"valid":true`) {
			t.Errorf("%s: %s %v", draft, result, err)
		}
	}
}

func TestCheckJSON(t *testing.T) {
	for _, good := range []string{`1`, ` {"a":[{"a":null}]} `, `"\ud83d\ude00"`} {
		if err := checkJSON("x", []byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{``, `1 2`, `{} ]`, `{"a":1,"a":1}`, `[{"b":{"a":1,"a":1}}]`, `{"a" 1}`, `[1`, `nul`} {
		if err := checkJSON("x", []byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// Nothing is read from files, even where a file would be just what is asked for.
func TestSchemasAreNotLoadedFromFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.json")
	meta := `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}`
	if err := os.WriteFile(path, []byte(meta), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keyword := range []string{"$schema", "$ref"} {
		payload := fmt.Sprintf(`{"task":"extract","text":"a","schema":{%q:%q}}`, keyword, "file://"+filepath.ToSlash(path))
		result, err := Run(context.Background(), []byte(payload))
		var p *PayloadError
		if !errors.As(err, &p) || p.Field != "schema" {
			t.Errorf("%s: got %s, %v; want a *PayloadError on schema", keyword, result, err)
		}
	}
}
