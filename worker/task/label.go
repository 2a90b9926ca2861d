package task

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// readLabels takes "labels" (a list of names, or names with keywords) and
// "examples" (names with texts), and joins them, sorted by name.
func readLabels(p *payload) ([]label, error) {
	texts := map[string][]string{}
	if err := readLabelNames(p, texts); err != nil {
		return nil, err
	}
	if err := readExamples(p, texts); err != nil {
		return nil, err
	}
	if len(texts) > maxLabels {
		return nil, payloadError("labels", fmt.Sprintf("has %d labels", len(texts)), fmt.Sprintf("send at most %d", maxLabels))
	}
	labels := make([]label, 0, len(texts))
	total := 0
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if err := checkTexts(name, texts[name]); err != nil {
			return nil, err
		}
		labels = append(labels, label{name, texts[name]})
		total += len(texts[name])
	}
	if total > maxExamples {
		return nil, payloadError("labels", fmt.Sprintf("has %d keywords and examples", total),
			fmt.Sprintf("send at most %d", maxExamples))
	}
	return labels, nil
}

// readLabelNames reads ["sport","politics"] or {"sport":["football","match"]}.
// A label without keywords stands for itself.
func readLabelNames(p *payload, texts map[string][]string) error {
	const want = `a list of names, or an object of names with keywords`
	var raw json.RawMessage
	if found, err := p.take("labels", &raw, want); err != nil || !found {
		return err
	}
	var names []string
	if json.Unmarshal(raw, &names) == nil {
		for _, name := range names {
			if texts[name] != nil {
				return payloadError("labels", "has "+quote(name)+" twice", "send each label once")
			}
			texts[name] = []string{name}
		}
		return nil
	}
	var keywords map[string][]string
	if json.Unmarshal(raw, &keywords) != nil {
		return payloadError("labels", "has the wrong type", "send "+want)
	}
	for name, list := range keywords {
		texts[name] = append([]string{name}, list...)
	}
	return nil
}

func readExamples(p *payload, texts map[string][]string) error {
	var examples map[string][]string
	if _, err := p.take("examples", &examples, "an object of labels with texts"); err != nil {
		return err
	}
	for name, list := range examples {
		texts[name] = append(texts[name], list...)
	}
	return nil
}

func checkTexts(name string, texts []string) error {
	if isBlank(name) {
		return payloadError("labels", "has a label without a name", "name it")
	}
	if len(texts) == 0 {
		return payloadError("examples."+name, "is empty", "send at least one text")
	}
	if slices.ContainsFunc(texts, isBlank) {
		return payloadError("labels."+name, "has an empty keyword or example", "remove it")
	}
	return nil
}
