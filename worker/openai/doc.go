// Package openai does LLM_INFER jobs on an engine that runs beside the worker:
// Ollama by its own protocol, vLLM, llama.cpp, LM Studio and others by
// OpenAI's.
//
//	e, err := openai.New(openai.Config{URL: "http://127.0.0.1:11434"})
//	...
//	Executors: map[string]worker.Executor{consign.KindInference: e}
//
// # Payloads
//
// A payload that does not start with "{" is the prompt itself. One that does is
// JSON, read strictly:
//
//	prompt       the text; or
//	messages     [{"role":"system|user|assistant","content":"..."}], the last one the user's.
//	raw          true: the model goes on with the prompt as it is, without its
//	             template and system prompt. Defaults to false.
//	max_tokens   the longest answer, 1 to 131072. Defaults to 1024.
//	temperature  0 to 2. Defaults to 0: always the likeliest token.
//	top_p        above 0, up to 1. Defaults to 1.
//	seed         0 to 2147483647. Defaults to chance.
//	stop         a text or up to 4, before which the answer ends.
//	json_schema  a JSON Schema, drafts 4 to 2020-12, that the answer follows; $ref
//	             only to #/$defs/NAME and #/definitions/NAME, and not recursive.
//
// A prompt that starts with "{" goes into {"prompt":"..."}. Everything else, a
// misspelt option above all, is an error that names the field and wraps
// worker.ErrPayload and *consign.FieldError. The model is the job's.
//
// # Results
//
// The result is the text of the answer, byte for byte, without anything that
// varies: no ID, time or count. The streamed parts, joined, are the result.
// Greedy answers (temperature 0) of one class are equal to the byte and can be
// compared with the comparator "exact". To make it so, every option that
// changes an answer is sent to Ollama, so that no Modelfile or version decides:
// penalties off, top_k 40, num_predict as above.
//
// An answer that max_tokens cut off is a result, noted in the job's log. Where
// there is a json_schema it is not: a result then is JSON that the schema
// accepts. An answer that the context cut off never is one.
//
// The record's class is the engine and its version, the digest of the model,
// its quantisation, how tokens are drawn ("greedy", or temperature, top_p and
// whether there is a seed), and a digest of every option that decides which
// token follows. With Ollama the model's digest there is over its weights,
// template, system prompt and parameters: the one in the record's model digest
// is Ollama's own, which for a model made by "ollama create" covers a path.
// Limits of length, stops and schema belong to the job and are equal wherever
// it runs. Where engine or digest are not known there is no class.
//
// # Whose fault
//
//   - The job's (worker.ErrPayload): a bad payload; 400 and 422; a prompt that
//     the model has no room for at all; JSON cut off by max_tokens.
//   - This worker's limits (worker.ErrRefused), so that another is asked at once:
//     no such model; a key or host that is not let in; too little memory; a
//     prompt that does not fit the context here; an answer against its schema;
//     an answer that repeats itself until Ollama breaks it off.
//   - Nobody's, and tried again: an engine that is away, busy, killed, silent, or
//     breaks off in mid-stream, whatever status it began with.
//
// # The context
//
// Ollama before 0.12.6 cuts a prompt that is too long, or forgets its beginning
// while it answers, and says 200 OK. The executor asks for a context by tier
// (Config.Contexts), and believes no answer whose counts reach it. Of a long
// talk in several messages Ollama drops the oldest without a trace in the
// counts; where that is possible at all the executor asks once more without the
// oldest message, for one token, and refuses an answer whose prompt was no
// longer than that.
//
// # Limits
//
//   - Text only: no images, tools or log probabilities. A thinking model's
//     thoughts are not part of the result.
//   - Equal bytes need like hardware too: the same weights on a processor and on
//     an accelerator may round differently. Config.Class keeps them apart.
//   - Ollama computes several requests at once in one batch
//     (OLLAMA_NUM_PARALLEL), which may round differently than one by one; set it
//     to 1 where results are compared and the figures show it.
//   - Older llama.cpp servers and LM Studio may shorten a prompt in ways that
//     their counts do not show.
package openai
