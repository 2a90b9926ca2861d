// Package task does TASK jobs: it summarizes, classifies and extracts from real
// text, without a model, on any worker. A job is JSON, and so is its result:
//
//	{"task":"summarize","text":"...","sentences":2}
//	{"task":"classify","text":"...","labels":{"sport":["match","goal"],"politics":["vote"]}}
//	{"task":"extract","text":"...","schema":{"type":"object","properties":{"total":{"type":"number"}}}}
//
// [Run] is the whole of it. Its results are deterministic to the byte, so that
// the results of two workers of the same [Class] can be compared as they are:
// scores are whole numbers, in per mille, from fixed-point arithmetic; maps are
// written sorted; nothing depends on time, chance, locale, network or files.
//
// # Payloads
//
// Reading is strict. Unknown fields, duplicate keys, trailing data, invalid
// UTF-8 and values out of range are a *[PayloadError] that names the field; such
// a job fails on every worker and must not be retried. "language" (ISO 639) may
// be given with any task and overrides detection.
//
// summarize (or summarise) quotes the sentences that stand for the others:
//
//	sentences  how many, 1 to 100. Defaults to 3, or to what fits max_chars.
//	max_chars  the most Unicode characters of the summary, joining spaces included. Defaults to no bound.
//	format     auto, plain, markdown or code. Defaults to auto.
//	result     summary; sentences with text, start and end (bytes of the text) and
//	           score; language; of (sentences in all); reason if there is no summary.
//
// Code blocks, tables, headings and HTML lines are not prose and never quoted.
// Where two lines of five look like source code, the comments and docstrings
// are the prose.
//
// classify chooses a label, or says why it cannot:
//
//	labels    names, or an object of names with keywords.
//	examples  an object of names with texts. May be given beside labels.
//	by        sentiment, topic or language. Defaults to topic if there are labels
//	          other than positive, negative and neutral; else to sentiment.
//	result    label or null; scores in per mille; evidence, how many sentences or
//	          words speak for anything; compound (sentiment, -1000 to 1000);
//	          language; reason: language_not_covered, no_evidence, tie, label_not_offered.
//
// extract finds what the text says in a form that programs can read:
//
//	schema  a JSON Schema of drafts 4 to 2020-12; $ref only to #/..., and not recursive.
//	result  without a schema: entities (email, url, date, datetime, amount, phone,
//	        number) and the JSON values in the text. With one: data, valid, missing
//	        and other problems, ambiguous fields, and the evidence for each field.
//
// With a schema, JSON in the text comes first: the first value that the schema
// accepts, else the first object that has one of its properties, as it stands.
// Then, for each property: a line that names it ("Invoice date: 3 March 2026",
// matched by the property's name or title whatever their case and punctuation),
// a value right after its name in a sentence, and the only value of its kind in
// the text (an enum's word, an e-mail address, a URL, a date, a phone number).
// Several different candidates make a field ambiguous and leave it out. No
// value is ever invented, completed or repaired.
//
// # Methods
//
//   - Sentences are UAX #29's, with abbreviations, initials and German ordinals
//     put back together. Words are UAX #29's, without function words, stemmed by
//     Snowball; scripts without spaces give pairs of characters.
//   - Summaries: TextRank (Mihalcea and Tarau 2004) with the similarity of
//     continuous LexRank (Erkan and Radev 2004), on a sparse graph.
//   - Sentiment: VADER (Hutto and Gilbert 2014), sentence by sentence.
//   - Topics: TF-IDF centroids, the Rocchio classifier.
//   - Language: script, then function words, then letter trigrams.
//
// # Limits
//
//   - A summary quotes; it does not rephrase, resolve "he", or understand.
//   - Sentiment is English only and does not see irony.
//   - Topics are words: without a keyword or example word in the text there is no
//     evidence, however plain the meaning. Chinese, Japanese and Thai words are
//     compared by pairs of characters.
//   - 20 languages have function words (see stopwords.go), 15 a stemmer, about 80
//     are told apart. Short or mixed texts are "und". Thai, Lao, Khmer and Burmese
//     mark no sentences, so that a paragraph counts as one.
//   - Dates need a year. Month names are read in English, German, French, Spanish,
//     Italian, Portuguese and Dutch. 03/04/2026 in English stays ambiguous.
//   - National phone numbers are found in a few unmistakable shapes and checked by
//     length alone. Names of people and places are not recognised. Numbers that
//     only commas separate (150.02,155.28) are not taken apart.
//   - A bare $ is read as USD and ¥ as JPY. 1,234 is read as the language has it.
//   - Text is at most 1 MiB, a schema 64 KiB. Time grows with the length of the
//     text, about a second per MiB at worst; a job looks at its context at
//     least every 16 KiB.
package task
