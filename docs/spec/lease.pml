/* Lease and fence: one job in a store that two coordinators share, workers that
   hold claims or believe they do, a submitter who may cancel, and a clock.
   Spin visits every order of their steps (make spec).

   A coordinator decides on its last look at the job and then commits, so that
   anything may come between. The store compares versions, and judges guards at
   the commit. A renewal moves no version. Coordinators and workers may crash,
   and answers may be lost: then a worker asks again, whoever answers. The answer
   of the store may be lost too, and what it was asked for be done later, or never:
   then the coordinator looks, and tries again under the same change ID.

   Each of these takes out one thing that the protocol rests on, and has to fail:
   -DNOFENCE   a completion is taken without a look at its claim
   -DBLIND     a reaper writes without version and guard (River #1302)
   -DNOGUARD   a reaper compares the version alone, which a renewal does not move
   -DEARLYACK  a completion is acknowledged before it is committed
   -DSTALE     a completion is refused on an old look
   -DSELFISH   a coordinator reaps only the claims that it has handed out
   -DRENAME    a second try of a claim has another change ID than the first */

#ifndef WORKERS
#define WORKERS 2
#endif
#define COORDINATORS 2
#define MAXFAULTS    2 /* as many attempts fail or lapse before the job fails */
#define MAXRENEWALS  1
#define MAXCRASHES   1 /* of workers */
#define MAXLOSSES    1 /* of answers */
#define MAXDOUBTS    1 /* claims whose outcome their coordinator does not know; a run has
                          these or other faults, for one machine's memory */

mtype = { QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED };

/* the record */
mtype state = QUEUED;
byte version, token, faults;
bool lapsed; /* the lease has ended by the store's clock */
byte change; /* the name of the claim that wrote it last; 0: another change did */

/* a claim that is late: it is done or dropped by the world */
bool late;
byte lateVersion, lateToken, lateChange;

/* what is known from outside */
byte held[WORKERS];      /* the claim that a worker believes in; 0: none */
byte tokens;             /* that were handed out */
byte results, resultOf;  /* how many were accepted, and whose is the job's */
byte acknowledged;       /* the claim whose completion was acknowledged */
bool cancelled;          /* the cancel was acknowledged */
bool dead[COORDINATORS];
byte renewals, crashes, losses, doubts, names;
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
#define ANSWER(what) if :: what :: losses < MAXLOSSES && doubts == 0 -> losses++ fi

#define WRITE(to) assert(!ENDED(state)); state = to; version++; change = 0

inline look() { s = state; v = version; t = token }

inline fault() {
  faults++;
  if
  :: faults >= MAXFAULTS -> WRITE(FAILED)
  :: else -> WRITE(QUEUED)
  fi
}

/* a claim is written */
inline take(as, name) { WRITE(RUNNING); token = as; change = name; lapsed = false }

/* the commit is asked for, and the store does not say whether it was done */
#define MAYDOUBT (doubts < MAXDOUBTS && losses == 0 && crashes == 0 && renewals == 0 && faults == 0 && me == 1)
inline doubt(as, name) { doubts++; late = true; lateVersion = v; lateToken = as; lateChange = name }

proctype coordinator(byte me) {
  mtype s = QUEUED; byte v, t; /* its last look */
  byte mine, name;             /* a claim in doubt, and the name of its change */
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
          tokens++; names++; own = tokens;
          if
          :: take(tokens, names); ANSWER(held[w] = token)
          :: MAYDOUBT -> doubt(tokens, names); mine = tokens; name = names
          fi;
          look()
       :: else -> look()
       fi };
     do /* in doubt: look, and try again */
     :: mine == 0 || dead[me] -> mine = 0; break
     :: atomic { mine != 0 && !dead[me] -> look();
          if
          :: state == RUNNING && change == name -> /* it was done */
             if :: held[w] == 0 -> ANSWER(held[w] = mine) :: else fi; mine = 0
          :: s == QUEUED -> skip
          :: else ->
             assert(!(state == RUNNING && token == mine)); /* who is told that there was nothing has nothing */
             mine = 0
          fi };
        atomic {
          if
          :: mine != 0 && !dead[me] ->
#ifdef RENAME
             names++; name = names;
#endif
             if
             :: version == v && held[w] == 0 -> take(mine, name); ANSWER(held[w] = mine); mine = 0; look()
             :: version == v && held[w] != 0 -> mine = 0 /* nobody waits for it */
             :: else -> skip
             fi
          :: else -> skip
          fi }
     od;
     name = 0

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
  :: atomic { !dead[me] && renewals < MAXRENEWALS && doubts == 0 ->
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
  :: atomic { crashes < MAXCRASHES && doubts == 0 && held[0] != 0 -> crashes++; held[0] = 0 }
  :: atomic { crashes < MAXCRASHES && doubts == 0 && held[WORKERS-1] != 0 -> crashes++; held[WORKERS-1] = 0 }
  :: atomic { !dead[0] && !dead[1] -> dead[0] = true } /* the other one goes on */
  :: atomic { !decided -> decided = true; if :: asked = true :: skip fi }
  :: atomic { late ->
       if
       :: version == lateVersion -> take(lateToken, lateChange)
       :: skip /* never */
       fi;
       late = false; lateVersion = 0; lateToken = 0; lateChange = 0 }
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
