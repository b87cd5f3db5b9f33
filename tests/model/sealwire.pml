/* The handshake of docs/protocol.md, section 3, and the first frames of each direction, with a Dolev-Yao intruder.

   Two ends of clients and two of servers; which client and service each is, under which key and certificates, is chosen
   freely. The intruder owns the wire and is an allowed client, too (E, with the key KE). Cryptography is perfect: a tag is
   what it was computed of, and the receiver compares that with what it sees itself. The intruder puts any values into the
   fields of a frame, under any tag that it has seen, and makes tags of its own under keys that it has.

   A macro NO_… leaves a field out of what is compared. See __main__.py. */

#ifndef TLS_LEAKED
#define TLS_LEAKED 1   /* the intruder has the TLS keys of all parties */
#endif
#ifndef CA_ERRS
#define CA_ERRS 1      /* it has certificates in the names of C1 and of the servers */
#endif
#ifndef LEAKED
#define LEAKED 0       /* a secret that it has besides its own */
#endif
#ifndef KEYS
#define KEYS 0         /* a key that all clients use; 0: any that they have */
#endif
#ifndef NO_SERVER_CERT
#define NO_SERVER_CERT 0
#endif
#ifndef NO_CLIENT_CERT
#define NO_CLIENT_CERT 0
#endif
#ifndef NO_SECRET
#define NO_SECRET 0
#endif
#ifndef NO_BOUND
#define NO_BOUND 0
#endif
#ifndef NO_CLIENT_NONCE
#define NO_CLIENT_NONCE 0
#endif
#ifndef NO_SERVER_NONCE
#define NO_SERVER_NONCE 0
#endif
#ifndef NO_KEY_ID
#define NO_KEY_ID 0
#endif
#ifndef NO_NAME
#define NO_NAME 0
#endif
#ifndef NO_HELLO_FEATURES
#define NO_HELLO_FEATURES 0
#endif
#ifndef NO_WELCOME_FEATURES
#define NO_WELCOME_FEATURES 0
#endif
#ifndef NO_DIRECTION
#define NO_DIRECTION 0
#endif
#ifndef NO_SEQUENCE
#define NO_SEQUENCE 0
#endif
#ifndef NO_REPLY_TO
#define NO_REPLY_TO 0
#endif
#ifndef NO_CONTENT
#define NO_CONTENT 0   /* kind, flags, wait and payload */
#endif

#ifndef COMPLETES
#define COMPLETES 0    /* it counts as an attack that both clients are connected and all frames arrive */
#endif

#define EQ(left_out, a, b) ((left_out) || (a) == (b))

/* Identities are those of certificates, but the intruder has one in the name of C1. The servers share theirs. */
#define C1 1
#define C2 2
#define E 3
#define E_AS_C1 4
#define NAMED(cert) ((cert) == E_AS_C1 -> C1 : (cert))
#define S 1
#define E_AS_S 2

/* KB is bound to C1, KS is shared, and KA is another id of the same secret by mistake. */
#define KB 1
#define KS 2
#define KE 3
#define KA 4
#define SECRET(key) ((key) == KA -> KS : (key))
#define HAS(key) ((key) == KE || SECRET(key) == LEAKED || NO_SECRET)
#define MAY_USE(key, cert) (NO_BOUND || ((key) == KB -> NAMED(cert) == C1 : ((key) == KE -> NAMED(cert) == E : 1)))
#define NOBODY 9

typedef Client { byte who, key, name, features, server_cert, link, nonce_s, agreed, next; bit connected }
typedef Server { byte name, cert, key, nonce_c, hello_name, features, agreed, next; bit up, authenticated }
Client c[2];
Server s[2];

/* Whose bytes the intruder sees, and to whom it can send: those that do not talk to each other behind TLS. */
#define OWNS_CLIENT(i) (TLS_LEAKED || c[i].server_cert == E_AS_S)
#define OWNS_SERVER(j) (TLS_LEAKED || s[j].cert == E || s[j].cert == E_AS_C1)
#define CARRIES(i, j) (OWNS_CLIENT(i) && OWNS_SERVER(j) || !OWNS_CLIENT(i) && !OWNS_SERVER(j) && c[i].link == j)

#define SAME_HELLO_KEY(i, j) (SECRET(c[i].key) == SECRET(key) \
    && EQ(NO_SERVER_CERT, c[i].server_cert, S) && EQ(NO_CLIENT_CERT, c[i].who, s[j].cert))
#define SAME_LOG(i, j) (EQ(NO_CLIENT_NONCE, s[j].nonce_c, i) && EQ(NO_KEY_ID, s[j].key, c[i].key) \
    && EQ(NO_NAME, s[j].hello_name, c[i].name) && EQ(NO_HELLO_FEATURES, s[j].features, c[i].features))
#define SAME_TRAFFIC_KEY(i, j, ns, wf) (SECRET(c[i].key) == SECRET(s[j].key) && SAME_LOG(i, j) \
    && EQ(NO_SERVER_CERT, c[i].server_cert, S) && EQ(NO_CLIENT_CERT, c[i].who, s[j].cert) \
    && EQ(NO_SERVER_NONCE, ns, j) && EQ(NO_WELCOME_FEATURES, wf, s[j].agreed))

/* What client and server must agree on. */
#define AGREE(i, j) (s[j].nonce_c == i && s[j].key == c[i].key && NAMED(s[j].cert) == c[i].who && s[j].cert == c[i].who \
    && c[i].server_cert == S && s[j].name == c[i].name && s[j].features == c[i].features)
#define CONNECTED(i, j) (AGREE(i, j) && c[i].connected && c[i].nonce_s == j && c[i].agreed == s[j].agreed)
/* The intruder may talk to a server as itself. If all clients use one key, nothing is promised to others. */
#define AS_ITSELF(j) (NAMED(s[j].cert) == E || KEYS && SECRET(s[j].key) != KEYS)

byte key, nonce, name, features, seq, reply, content, from;

/* The frames 1 and 2 of a client, of which the second belongs to request 1; of a server, the answers to 2 and to 1. */
#define REPLY_OF_CLIENT(q) ((q) == 2 -> 1 : 0)
#define REPLY_OF_SERVER(q) ((q) == 2 -> 1 : 2)

inline choose_client(i) {
    if :: c[i].who = C1 :: c[i].who = C2 fi;
    if
    :: KEYS == 0 && c[i].who == C1 -> c[i].key = KB
    :: KEYS == 0 || KEYS == KS -> c[i].key = KS
    :: KEYS == 0 && c[i].who == C2 -> c[i].key = KA
    :: KEYS == KB && c[i].who == C1 -> c[i].key = KB
    fi;
    if :: c[i].name = 0 :: c[i].name = 1 fi;
    if :: c[i].features = 0 :: c[i].features = 1 fi;
    if :: c[i].server_cert = S :: CA_ERRS -> c[i].server_cert = E_AS_S fi;
    c[i].next = 1; c[i].nonce_s = NOBODY
}

inline choose_server(j) {
    if :: s[j].cert = C1 :: s[j].cert = C2 :: s[j].cert = E :: CA_ERRS -> s[j].cert = E_AS_C1 fi;
    s[j].name = j; s[j].next = 1; s[j].nonce_c = NOBODY
}

inline choose_links() {
    /* Which of them talk behind TLS, if the intruder has not its keys. */
    c[0].link = NOBODY; c[1].link = NOBODY;
    if :: TLS_LEAKED :: else ->
        if :: c[0].who == s[0].cert && c[0].server_cert == S -> c[0].link = 0
           :: c[0].who == s[1].cert && c[0].server_cert == S -> c[0].link = 1 :: true fi;
        if :: c[1].who == s[0].cert && c[1].server_cert == S && c[0].link != 0 -> c[1].link = 0
           :: c[1].who == s[1].cert && c[1].server_cert == S && c[0].link != 1 -> c[1].link = 1 :: true fi
    fi
}

inline hello(j) {
    /* Any HELLO for a server: a client's tag, or one that the intruder makes. */
    if :: from = 0 :: from = 1 :: from = NOBODY fi;
    if :: key = KB :: key = KS :: key = KE :: key = KA fi;
    if :: nonce = 0 :: nonce = 1 fi;
    if :: features = 0 :: features = 1 fi;
    name = s[j].name;
    if
    :: (from != NOBODY && (CARRIES(from, j)) && SAME_HELLO_KEY(from, j) && EQ(NO_CLIENT_NONCE, nonce, from)
       && EQ(NO_KEY_ID, key, c[from].key) && EQ(NO_NAME, name, c[from].name)
       && EQ(NO_HELLO_FEATURES, features, c[from].features) && MAY_USE(key, s[j].cert))
    :: (from == NOBODY && OWNS_SERVER(j) && HAS(key) && MAY_USE(key, s[j].cert))
    fi;
    s[j].key = key; s[j].nonce_c = nonce; s[j].hello_name = name; s[j].features = features; s[j].agreed = features;
    s[j].up = 1;
    assert(AS_ITSELF(j) || AGREE(0, j) || AGREE(1, j))
}

inline welcome(i) {
    if :: from = 0 :: from = 1 :: from = NOBODY fi;
    if :: nonce = 0 :: nonce = 1 fi;
    if :: features = 0 :: c[i].features -> features = 1 fi;
    if
    :: (from != NOBODY && s[from].up && (CARRIES(i, from)) && SAME_TRAFFIC_KEY(i, from, nonce, features))
    :: (from == NOBODY && OWNS_CLIENT(i) && HAS(c[i].key))
    fi;
    c[i].nonce_s = nonce; c[i].agreed = features; c[i].connected = 1;
    assert(from != NOBODY && CONNECTED(i, from) && c[1 - i].nonce_s != from)
}

inline to_server(j) {
    /* The next frame of a server is a client's frame `reply`, with other values or not, or a forged one. */
    if :: from = 0 :: from = 1 :: from = NOBODY fi;
    if :: seq = 1 :: seq = 2 fi;
    if :: reply = 0 :: reply = 1 fi;
    if :: content = 0 :: content = 1 fi;
    if
    :: (from != NOBODY && c[from].connected && (CARRIES(from, j))
       && SAME_TRAFFIC_KEY(from, j, c[from].nonce_s, c[from].agreed)
       && EQ(NO_SEQUENCE, s[j].next, seq) && EQ(NO_REPLY_TO, reply, REPLY_OF_CLIENT(seq)) && EQ(NO_CONTENT, content, 0)) -> assert(CONNECTED(from, j) && s[j].next == seq && reply == REPLY_OF_CLIENT(seq) && content == 0)
    :: (from == NOBODY && OWNS_SERVER(j) && HAS(s[j].key)) -> assert(AS_ITSELF(j))
    fi;
    s[j].authenticated = 1; s[j].next++
}

inline to_client(i) {
    if :: from = 0 :: from = 1 :: from = NOBODY fi;
    if :: seq = 1 :: seq = 2 fi;
    if :: reply = 1 :: reply = 2 fi;
    if :: content = 0 :: content = 1 fi;
    if
    :: (from != NOBODY && s[from].next > 2 && (CARRIES(i, from))
       && SAME_TRAFFIC_KEY(i, from, c[i].nonce_s, c[i].agreed)
       && EQ(NO_SEQUENCE, c[i].next, seq) && EQ(NO_REPLY_TO, reply, REPLY_OF_SERVER(seq)) && EQ(NO_CONTENT, content, 0)) -> assert(CONNECTED(i, from) && c[i].next == seq && reply == REPLY_OF_SERVER(seq) && content == 0)
    :: (NO_DIRECTION && from == i && OWNS_CLIENT(i) && EQ(NO_SEQUENCE, c[i].next, seq)
       && EQ(NO_REPLY_TO, reply, REPLY_OF_CLIENT(seq)) && EQ(NO_CONTENT, content, 0)) -> assert(false)
    :: (from == NOBODY && OWNS_CLIENT(i) && HAS(c[i].key)) -> assert(false)
    fi;
    c[i].next++
}

inline forget() { key = 0; nonce = 0; name = 0; features = 0; seq = 0; reply = 0; content = 0; from = 0 }

init {
    atomic { choose_client(0); choose_client(1); choose_server(0); choose_server(1); choose_links() }
    do
    :: atomic { !s[0].up -> hello(0); forget() }
    :: atomic { !s[1].up -> hello(1); forget() }
    :: atomic { !c[0].connected -> welcome(0); forget() }
    :: atomic { !c[1].connected -> welcome(1); forget() }
    :: atomic { s[0].up && s[0].next < 3 -> to_server(0); forget() }
    :: atomic { s[1].up && s[1].next < 3 -> to_server(1); forget() }
    :: atomic { c[0].connected && c[0].next < 3 -> to_client(0); forget() }
    :: atomic { c[1].connected && c[1].next < 3 -> to_client(1); forget() }
    :: COMPLETES && c[0].next == 3 && c[1].next == 3 && s[0].next == 3 && s[1].next == 3 -> assert(false)
    od
}
