//! The commands of Redis and Sentinel: where in each the keys, fields, values and secrets stand, and what its reply
//! holds. A command that is not listed has a key first and values behind it.

/// What a reply holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Values of the key; without a key, text.
    Value,
    /// One value for each key.
    Keys,
    /// One value for each field of the key.
    Fields,
    /// Fields and their values in turns.
    Pairs,
    /// What the server says of itself, or names of keys.
    Text,
    /// Credentials.
    Secret,
    /// Whole commands with their values: not told.
    Opaque,
}

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name in upper case.
    pub(super) name: &'static str,
    /// Its arguments in order. `k` a key, `f` a field, `v` a value, `s` a number or a word that is shown, `t` the text of
    /// a script, `p` the name of a procedure, `#` how many keys follow. What stands in parentheses is repeated up to
    /// what stands behind them. `!` stands for what `special` knows.
    pub(super) arguments: &'static str,
    /// What its reply holds.
    pub(super) holds: Holds,
}

/// Longest name of a command, bytes.
pub(super) const NAME_BYTES_MAX: usize = 64;

const UNKNOWN: Command = Command { name: "", arguments: "k(v)", holds: Holds::Value };

/// The command of this name, in whatever case; one with an empty name where it is not known.
pub(super) fn find(name: &[u8]) -> &'static Command {
    let mut upper = [0u8; NAME_BYTES_MAX];
    let Some(upper) = upper.get_mut(..name.len()) else { return &UNKNOWN };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    let found = COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(upper));
    found.map_or(&UNKNOWN, |index| &COMMANDS[index])
}

/// The line begins with a name that is known.
pub(super) fn begins_with_known(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    !find(&line[..end]).name.is_empty()
}

const fn command(name: &'static str, arguments: &'static str, holds: Holds) -> Command {
    Command { name, arguments, holds }
}

/// By name.
static COMMANDS: &[Command] = &[
    command("ACL", "!acl", Holds::Secret),
    command("APPEND", "k(v)", Holds::Value),
    command("ASKING", "(s)", Holds::Text),
    command("AUTH", "!auth", Holds::Text),
    command("BGREWRITEAOF", "(s)", Holds::Text),
    command("BGSAVE", "(s)", Holds::Text),
    command("BITCOUNT", "k(s)", Holds::Value),
    command("BITFIELD", "k(s)", Holds::Value),
    command("BITFIELD_RO", "k(s)", Holds::Value),
    command("BITOP", "s(k)", Holds::Value),
    command("BITPOS", "k(s)", Holds::Value),
    command("BLMOVE", "kk(s)", Holds::Value),
    command("BLMPOP", "s#(s)", Holds::Value),
    command("BLPOP", "(k)s", Holds::Value),
    command("BRPOP", "(k)s", Holds::Value),
    command("BRPOPLPUSH", "kks", Holds::Value),
    command("BZMPOP", "s#(s)", Holds::Value),
    command("BZPOPMAX", "(k)s", Holds::Value),
    command("BZPOPMIN", "(k)s", Holds::Value),
    command("CLIENT", "(s)", Holds::Text),
    command("CLUSTER", "(s)", Holds::Text),
    command("COMMAND", "(s)", Holds::Text),
    command("CONFIG", "!config", Holds::Pairs),
    command("COPY", "kk(s)", Holds::Value),
    command("DBSIZE", "(s)", Holds::Text),
    command("DEBUG", "s(v)", Holds::Text),
    command("DECR", "k(s)", Holds::Value),
    command("DECRBY", "k(s)", Holds::Value),
    command("DEL", "(k)", Holds::Value),
    command("DISCARD", "(s)", Holds::Text),
    command("DUMP", "k", Holds::Value),
    command("ECHO", "(v)", Holds::Text),
    command("EVAL", "t#(v)", Holds::Value),
    command("EVALSHA", "p#(v)", Holds::Value),
    command("EVALSHA_RO", "p#(v)", Holds::Value),
    command("EVAL_RO", "t#(v)", Holds::Value),
    command("EXEC", "(s)", Holds::Text),
    command("EXISTS", "(k)", Holds::Value),
    command("EXPIRE", "k(s)", Holds::Value),
    command("EXPIREAT", "k(s)", Holds::Value),
    command("EXPIRETIME", "k(s)", Holds::Value),
    command("FAILOVER", "(s)", Holds::Text),
    command("FCALL", "p#(v)", Holds::Value),
    command("FCALL_RO", "p#(v)", Holds::Value),
    command("FLUSHALL", "(s)", Holds::Text),
    command("FLUSHDB", "(s)", Holds::Text),
    command("FUNCTION", "s(v)", Holds::Text),
    command("GEOADD", "k(v)", Holds::Value),
    command("GEODIST", "k(v)", Holds::Value),
    command("GEOHASH", "k(v)", Holds::Value),
    command("GEOPOS", "k(v)", Holds::Value),
    command("GEORADIUS", "k(s)", Holds::Value),
    command("GEORADIUSBYMEMBER", "k(v)", Holds::Value),
    command("GEORADIUSBYMEMBER_RO", "k(v)", Holds::Value),
    command("GEORADIUS_RO", "k(s)", Holds::Value),
    command("GEOSEARCH", "k(s)", Holds::Value),
    command("GEOSEARCHSTORE", "kk(s)", Holds::Value),
    command("GET", "k", Holds::Value),
    command("GETBIT", "k(s)", Holds::Value),
    command("GETDEL", "k", Holds::Value),
    command("GETEX", "k(s)", Holds::Value),
    command("GETRANGE", "k(s)", Holds::Value),
    command("GETSET", "k(v)", Holds::Value),
    command("HDEL", "k(f)", Holds::Value),
    command("HELLO", "!hello", Holds::Text),
    command("HEXISTS", "k(f)", Holds::Value),
    command("HGET", "kf", Holds::Fields),
    command("HGETALL", "k", Holds::Pairs),
    command("HINCRBY", "kfs", Holds::Fields),
    command("HINCRBYFLOAT", "kfs", Holds::Fields),
    command("HKEYS", "k(s)", Holds::Value),
    command("HLEN", "k(s)", Holds::Value),
    command("HMGET", "k(f)", Holds::Fields),
    command("HMSET", "k(fv)", Holds::Value),
    command("HRANDFIELD", "k(s)", Holds::Pairs),
    command("HSCAN", "k(s)", Holds::Pairs),
    command("HSET", "k(fv)", Holds::Value),
    command("HSETNX", "kfv", Holds::Value),
    command("HSTRLEN", "k(f)", Holds::Value),
    command("HVALS", "k(s)", Holds::Value),
    command("INCR", "k(s)", Holds::Value),
    command("INCRBY", "k(s)", Holds::Value),
    command("INCRBYFLOAT", "k(s)", Holds::Value),
    command("INFO", "(s)", Holds::Text),
    command("KEYS", "(s)", Holds::Text),
    command("LASTSAVE", "(s)", Holds::Text),
    command("LATENCY", "(s)", Holds::Text),
    command("LCS", "kk(s)", Holds::Value),
    command("LINDEX", "k(s)", Holds::Value),
    command("LINSERT", "ksvv", Holds::Value),
    command("LLEN", "k(s)", Holds::Value),
    command("LMOVE", "kk(s)", Holds::Value),
    command("LMPOP", "#(s)", Holds::Value),
    command("LOLWUT", "(s)", Holds::Text),
    command("LPOP", "k(s)", Holds::Value),
    command("LPOS", "kv(s)", Holds::Value),
    command("LPUSH", "k(v)", Holds::Value),
    command("LPUSHX", "k(v)", Holds::Value),
    command("LRANGE", "k(s)", Holds::Value),
    command("LREM", "ksv", Holds::Value),
    command("LSET", "ksv", Holds::Value),
    command("LTRIM", "k(s)", Holds::Value),
    command("MEMORY", "sk(s)", Holds::Value),
    command("MGET", "(k)", Holds::Keys),
    command("MIGRATE", "!migrate", Holds::Text),
    command("MODULE", "s(v)", Holds::Text),
    command("MONITOR", "(s)", Holds::Text),
    command("MOVE", "k(s)", Holds::Value),
    command("MSET", "(kv)", Holds::Value),
    command("MSETNX", "(kv)", Holds::Value),
    command("MULTI", "(s)", Holds::Text),
    command("OBJECT", "sk(s)", Holds::Value),
    command("PERSIST", "k(s)", Holds::Value),
    command("PEXPIRE", "k(s)", Holds::Value),
    command("PEXPIREAT", "k(s)", Holds::Value),
    command("PEXPIRETIME", "k(s)", Holds::Value),
    command("PFADD", "k(v)", Holds::Value),
    command("PFCOUNT", "(k)", Holds::Value),
    command("PFDEBUG", "(s)", Holds::Text),
    command("PFMERGE", "(k)", Holds::Value),
    command("PFSELFTEST", "(s)", Holds::Text),
    command("PING", "(v)", Holds::Text),
    command("PSETEX", "ksv", Holds::Value),
    command("PSUBSCRIBE", "(s)", Holds::Text),
    command("PSYNC", "(s)", Holds::Text),
    command("PTTL", "k(s)", Holds::Value),
    command("PUBLISH", "kv", Holds::Value),
    command("PUBSUB", "(s)", Holds::Text),
    command("PUNSUBSCRIBE", "(s)", Holds::Text),
    command("QUIT", "(s)", Holds::Text),
    command("RANDOMKEY", "(s)", Holds::Text),
    command("READONLY", "(s)", Holds::Text),
    command("READWRITE", "(s)", Holds::Text),
    command("RENAME", "kk(s)", Holds::Value),
    command("RENAMENX", "kk(s)", Holds::Value),
    command("REPLCONF", "(s)", Holds::Text),
    command("REPLICAOF", "(s)", Holds::Text),
    command("RESET", "(s)", Holds::Text),
    command("RESTORE", "ksv(s)", Holds::Value),
    command("RESTORE-ASKING", "ksv(s)", Holds::Value),
    command("ROLE", "(s)", Holds::Text),
    command("RPOP", "k(s)", Holds::Value),
    command("RPOPLPUSH", "kk(s)", Holds::Value),
    command("RPUSH", "k(v)", Holds::Value),
    command("RPUSHX", "k(v)", Holds::Value),
    command("SADD", "k(v)", Holds::Value),
    command("SAVE", "(s)", Holds::Text),
    command("SCAN", "(s)", Holds::Text),
    command("SCARD", "k(s)", Holds::Value),
    command("SCRIPT", "s(v)", Holds::Text),
    command("SDIFF", "(k)", Holds::Value),
    command("SDIFFSTORE", "(k)", Holds::Value),
    command("SELECT", "(s)", Holds::Text),
    command("SENTINEL", "!sentinel", Holds::Text),
    command("SET", "kv(s)", Holds::Value),
    command("SETBIT", "k(s)", Holds::Value),
    command("SETEX", "ksv", Holds::Value),
    command("SETNX", "k(v)", Holds::Value),
    command("SETRANGE", "ksv", Holds::Value),
    command("SHUTDOWN", "(s)", Holds::Text),
    command("SINTER", "(k)", Holds::Value),
    command("SINTERCARD", "#(s)", Holds::Value),
    command("SINTERSTORE", "(k)", Holds::Value),
    command("SISMEMBER", "k(v)", Holds::Value),
    command("SLAVEOF", "(s)", Holds::Text),
    command("SLOWLOG", "(s)", Holds::Opaque),
    command("SMEMBERS", "k", Holds::Value),
    command("SMISMEMBER", "k(v)", Holds::Value),
    command("SMOVE", "kkv", Holds::Value),
    command("SORT", "k(s)", Holds::Value),
    command("SORT_RO", "k(s)", Holds::Value),
    command("SPOP", "k(s)", Holds::Value),
    command("SPUBLISH", "kv", Holds::Value),
    command("SRANDMEMBER", "k(s)", Holds::Value),
    command("SREM", "k(v)", Holds::Value),
    command("SSCAN", "k(s)", Holds::Value),
    command("SSUBSCRIBE", "(s)", Holds::Text),
    command("STRLEN", "k(s)", Holds::Value),
    command("SUBSCRIBE", "(s)", Holds::Text),
    command("SUBSTR", "k(s)", Holds::Value),
    command("SUNION", "(k)", Holds::Value),
    command("SUNIONSTORE", "(k)", Holds::Value),
    command("SUNSUBSCRIBE", "(s)", Holds::Text),
    command("SWAPDB", "(s)", Holds::Text),
    command("SYNC", "(s)", Holds::Text),
    command("TIME", "(s)", Holds::Text),
    command("TOUCH", "(k)", Holds::Value),
    command("TTL", "k(s)", Holds::Value),
    command("TYPE", "k(s)", Holds::Value),
    command("UNLINK", "(k)", Holds::Value),
    command("UNSUBSCRIBE", "(s)", Holds::Text),
    command("UNWATCH", "(s)", Holds::Text),
    command("WAIT", "(s)", Holds::Text),
    command("WAITAOF", "(s)", Holds::Text),
    command("WATCH", "(k)", Holds::Value),
    command("XACK", "k(s)", Holds::Value),
    command("XADD", "!xadd", Holds::Value),
    command("XAUTOCLAIM", "k(s)", Holds::Pairs),
    command("XCLAIM", "k(s)", Holds::Pairs),
    command("XDEL", "k(s)", Holds::Value),
    command("XGROUP", "sk(s)", Holds::Value),
    command("XINFO", "sk(s)", Holds::Pairs),
    command("XLEN", "k(s)", Holds::Value),
    command("XPENDING", "k(s)", Holds::Value),
    command("XRANGE", "k(s)", Holds::Pairs),
    command("XREAD", "!streams", Holds::Pairs),
    command("XREADGROUP", "!streams", Holds::Pairs),
    command("XREVRANGE", "k(s)", Holds::Pairs),
    command("XSETID", "k(s)", Holds::Value),
    command("XTRIM", "k(s)", Holds::Value),
    command("ZADD", "k(v)", Holds::Value),
    command("ZCARD", "k(s)", Holds::Value),
    command("ZCOUNT", "k(s)", Holds::Value),
    command("ZDIFF", "#(s)", Holds::Value),
    command("ZDIFFSTORE", "k#(s)", Holds::Value),
    command("ZINCRBY", "ksv", Holds::Value),
    command("ZINTER", "#(s)", Holds::Value),
    command("ZINTERCARD", "#(s)", Holds::Value),
    command("ZINTERSTORE", "k#(s)", Holds::Value),
    command("ZLEXCOUNT", "k(s)", Holds::Value),
    command("ZMPOP", "#(s)", Holds::Value),
    command("ZMSCORE", "k(v)", Holds::Value),
    command("ZPOPMAX", "k(s)", Holds::Value),
    command("ZPOPMIN", "k(s)", Holds::Value),
    command("ZRANDMEMBER", "k(s)", Holds::Value),
    command("ZRANGE", "k(s)", Holds::Value),
    command("ZRANGEBYLEX", "k(s)", Holds::Value),
    command("ZRANGEBYSCORE", "k(s)", Holds::Value),
    command("ZRANGESTORE", "kk(s)", Holds::Value),
    command("ZRANK", "kv(s)", Holds::Value),
    command("ZREM", "k(v)", Holds::Value),
    command("ZREMRANGEBYLEX", "k(s)", Holds::Value),
    command("ZREMRANGEBYRANK", "k(s)", Holds::Value),
    command("ZREMRANGEBYSCORE", "k(s)", Holds::Value),
    command("ZREVRANGE", "k(s)", Holds::Value),
    command("ZREVRANGEBYLEX", "k(s)", Holds::Value),
    command("ZREVRANGEBYSCORE", "k(s)", Holds::Value),
    command("ZREVRANK", "kv(s)", Holds::Value),
    command("ZSCAN", "k(s)", Holds::Value),
    command("ZSCORE", "k(v)", Holds::Value),
    command("ZUNION", "#(s)", Holds::Value),
    command("ZUNIONSTORE", "k#(s)", Holds::Value),
];

#[cfg(test)]
mod table_tests {
    use super::*;

    #[test]
    fn commands_are_in_order_and_found_in_any_case() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(find(b"hGetAll").name, "HGETALL");
        assert_eq!(find(b"FT.SEARCH").name, "");
        assert_eq!(find(&[b'x'; 200]).name, "");
    }
}
