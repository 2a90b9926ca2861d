/* Lease and fence: one job in a store that two coordinators share, workers that
   hold claims or believe they do, a submitter who may cancel, and a clock.
   Spin visits every order of their steps (make spec).

   A coordinator decides on its last look at the job and then commits, so that
   anything may come between. The store compares versions, and judges guards at
   the commit. A renewal moves no version. Coordinators and workers may crash,
   and answers may be lost: then a worker asks again, whoever answers.

   Each of these takes out one thing that the protocol rests on, and has to fail:
   -DNOFENCE   a completion is taken without a look at its claim
   -DBLIND     a reaper writes without version and guard (River #1302)
   -DNOGUARD   a reaper compares the version alone, which a renewal does not move
   -DEARLYACK  a completion is acknowledged before it is committed
   -DSTALE     a completion is refused on an old look
   -DSELFISH   a coordinator reaps only the claims that it has handed out */

#ifndef WORKERS
#define WORKERS 2
#endif
#define COORDINATORS 2
#define MAXFAULTS    2 /* as many attempts fail or lapse before the job fails */
#define MAXRENEWALS  1
#define MAXCRASHES   1 /* of workers */
#define MAXLOSSES    1 /* of answers */

mtype = { QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED };

/* the record */
mtype state = QUEUED;
byte version, token, faults;
bool lapsed; /* the lease has ended by the store's clock */

/* what is known from outside */
byte held[WORKERS];      /* the claim that a worker believes in; 0: none */
byte tokens;             /* that were handed out */
byte results, resultOf;  /* how many were accepted, and whose is the job's */
byte acknowledged;       /* the claim whose completion was acknowledged */
bool cancelled;          /* the cancel was acknowledged */
bool dead[COORDINATORS];
byte renewals, crashes, losses;
bool decided, asked;     /* whether to cancel; to cancel */

#define ENDED(s) (s == COMPLETED || s == FAILED || s == CANCELLED)
#define OVER     (ENDED(state) && held[0] == 0 && held[WORKERS-1] == 0 && held[WORKERS/2] == 0)
#define CURRENT(w) (state == RUNNING && token == held[w])

#ifdef SELFISH
#define MINE (token == own)
#else
#define MINE true
#endif

/* the answer comes, or is lost */
#define ANSWER(what) if :: what :: losses < MAXLOSSES -> losses++ fi

#define WRITE(to) assert(!ENDED(state)); state = to; version++

inline look() { s = state; v = version; t = token }

inline fault() {
  faults++;
  if
  :: faults >= MAXFAULTS -> WRITE(FAILED)
  :: else -> WRITE(QUEUED)
  fi
}

proctype coordinator(byte me) {
  mtype s = QUEUED; byte v, t; /* its last look */
  byte own;                    /* the last claim that it has handed out */
  byte w, claim;

  do
  :: dead[me] || OVER -> break
  :: atomic { v != version && !dead[me] -> look() }

  /* claim: by a worker that is free */
  :: s == QUEUED && !dead[me] ->
     atomic { select(w : 0 .. WORKERS-1); if :: held[w] == 0 :: else -> goto again fi };
     atomic {
       if
       :: !dead[me] && version == v && held[w] == 0 ->
          WRITE(RUNNING); tokens++; token = tokens; lapsed = false; own = token;
          ANSWER(held[w] = token); look()
       :: else -> look()
       fi }

  /* complete, fail, and the fence before both */
  :: atomic { !dead[me] && (held[0] != 0 || held[WORKERS-1] != 0 || held[WORKERS/2] != 0) ->
       select(w : 0 .. WORKERS-1); claim = held[w]; if :: claim != 0 :: else -> goto again fi };
     if
#ifdef NOFENCE
     :: s == RUNNING ->
#else
     :: s == RUNNING && t == claim ->
#endif
#ifdef EARLYACK
        acknowledged = claim;
#endif
        atomic {
          if
          :: !dead[me] && version == v && held[w] == claim ->
             if
             :: WRITE(COMPLETED); results++; resultOf = claim;
                assert(token == claim);
                ANSWER(acknowledged = claim; held[w] = 0)
             :: fault(); ANSWER(held[w] = 0)
             fi;
             look()
          :: else -> look()
          fi }
     :: else -> /* refused, or the same again: on a fresh look alone */
        atomic {
#ifndef STALE
          look();
#endif
          if
          :: dead[me] || held[w] != claim -> skip
          :: !dead[me] && held[w] == claim && s == COMPLETED && resultOf == claim ->
             ANSWER(acknowledged = claim; held[w] = 0)
          :: !dead[me] && held[w] == claim && s == RUNNING && t == claim -> skip /* after all */
          :: else ->
             assert(!CURRENT(w) && !(state == COMPLETED && resultOf == claim)); /* who is refused has lost it */
             ANSWER(held[w] = 0)
          fi }
     fi

  /* renew: in the store, by claim, without a version */
  :: atomic { !dead[me] && renewals < MAXRENEWALS ->
       select(w : 0 .. WORKERS-1);
       if
       :: held[w] != 0 && CURRENT(w) && lapsed -> renewals++; lapsed = false
       :: else -> skip
       fi }

  /* reap: what a scan has found to be lapsed */
  :: atomic { !dead[me] && state == RUNNING && lapsed && MINE -> look() };
     atomic {
       if
#ifdef BLIND
       :: !dead[me] -> fault(); look()
#else
#ifdef NOGUARD
       :: !dead[me] && version == v ->
#else
       :: !dead[me] && version == v && state == RUNNING && token == t && lapsed ->
#endif
          assert(lapsed); /* who has renewed in time is not reaped */
          fault(); look()
       :: else -> look()
#endif
       fi }

  /* cancel */
  :: asked && !cancelled && !dead[me] && !ENDED(s) ->
     atomic {
       if
       :: !dead[me] && version == v -> WRITE(CANCELLED); ANSWER(cancelled = true); look()
       :: else -> look()
       fi }
again: skip
  od
}

/* time passes, processes crash, the submitter changes her mind or does not */
proctype world() {
  do
  :: atomic { state == RUNNING && !lapsed -> lapsed = true }
  :: atomic { crashes < MAXCRASHES && held[0] != 0 -> crashes++; held[0] = 0 }
  :: atomic { crashes < MAXCRASHES && held[WORKERS-1] != 0 -> crashes++; held[WORKERS-1] = 0 }
  :: atomic { !dead[0] && !dead[1] -> dead[0] = true } /* the other one goes on */
  :: atomic { !decided -> decided = true; if :: asked = true :: skip fi }
  :: OVER -> break
  od
}

init {
  atomic { run coordinator(0); run coordinator(1); run world() };
  /* The end: that it comes in every run is that there is no other state in which
     nobody can go on. */
  OVER;
  assert(results <= 1);
  assert(acknowledged == 0 || state == COMPLETED && resultOf == acknowledged);
  assert(!cancelled || state == CANCELLED)
}
