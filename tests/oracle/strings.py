"""Texts that trip tokenizers. A pair (text, times) is a repetition."""

ODD_STRINGS = [
    "", " ", "  ", "\t", "\n", " \n\t ", "\r\n", "a", " a", "a ", "  a  b   c  ", "a\tb\nc\rd\x0be\x0cf",
    "A white cat resting in Rome", "A WHITE CAT RESTING IN ROME", "a slice of pizza, on a wooden table!",
    "an illustration of a red car; 12 pictures at 1024x768 (8k)...", "hello,world!!! ???", "-- --- _ __ a_b", "#@$%^&*()[]{}",
    "it's we're they'll I've I'm he'd that's isn't 'sunny 's ' ''s", "IT'S WE'RE THEY'LL I'M", "it\u2019s we\u2019re", "'S 'RE",
    "3 33 333 3.14 1,000 1\u00bd \u2460 \u0663\u0664", "1st 2nd a1b2c3", "caf\u00e9 na\u00efve r\u00e9sum\u00e9", "cafe\u0301 nai\u0308ve re\u0301sume\u0301",
    "\u00c5ngstr\u00f6m \u212bngstr\u00f6m A\u030angstrom", "Stra\u00dfe STRASSE \u1e9e", "\u0130stanbul \u0131l", "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u039f\u0394\u039f\u03a3 \u03a3",
    "\u01c5 \u01c4 \u01c6", "\ufb01ne \ufb02our \ufb03", "\u2122 \u00ae \u00a9 \u2116 \u2026", "\uff21 \uff57\uff48\uff49\uff54\uff45 \uff43\uff41\uff54\uff01 \uff11\uff12\uff13",
    "\u767d\u3044\u732b\u304c\u30ed\u30fc\u30de\u3067\u4f11\u3093\u3067\u3044\u307e\u3059\u3002", "\u4e00\u53ea\u767d\u8272\u7684\u732b\u5728\u7f57\u9a6c\u4f11\u606f\u3002", "\uff76\uff9e\uff77\uff9e \u30ac \u304b\u3099",
    "\uace0\uc591\uc774\uac00 \ub85c\ub9c8\uc5d0\uc11c \uc26c\uace0 \uc788\ub2e4", "\u1100\u1161\u11a8", "\u041a\u043e\u0448\u043a\u0430 \u0441\u0438\u0434\u0438\u0442 \u043d\u0430 \u043e\u043a\u043d\u0435",
    "\u0642\u0637\u0629 \u0628\u064a\u0636\u0627\u0621 \u062a\u0633\u062a\u0631\u064a\u062d", "\u05d7\u05ea\u05d5\u05dc \u05dc\u05d1\u05df", "\ufdfa \ufefb", "\u0e41\u0e21\u0e27\u0e2a\u0e35\u0e02\u0e32\u0e27 \u0e19\u0e49\u0e33",
    "\u092c\u093f\u0932\u094d\u0932\u0940 \u0930\u094b\u092e", "\U0001f600", "\U0001f600\U0001f600\U0001f63a \U0001f436", "\U0001f469\u200d\U0001f680", "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd \u2600\ufe0f \u2600 1\ufe0f\u20e3", "\U0001f1ee\U0001f1f9 \U0001f1eb\U0001f1f7", "\U0001d400\U0001d51e \U00020000", "null\x00byte", "\x00", "\x01\x02\x1f\x7f\x80\x9f",
    "a\u00a0b\u2003c\u3000d\u1680e\u2028f\u2029g\u0085h\u202fi", "zero\u200bwidth\u200cjoin\u200der\u2060\ufeffbom", "\ufeff", "soft\u00adhyphen", "\u200e\u200fmarks\u202a\u202c",
    "\ufffd \ufffe \U0010ffff \ue000", "a\u0301\u0302\u0303\u0304\u0305b", "\u0301 a", "Z\u0351\u036b\u0343a\u0322l\u035dg\u0348o", "\u2581 \u2581a a\u2581b \u2581\u2581",
    "</s>", "a </s> b", "a</s>b", " </s> ", "<s> <unk> <pad>", "<extra_id_0>", "fill <extra_id_3> and <extra_id_9>.", "<extra_id_5>x", "<extra_id_99> <extra_id_100>",
    "<EXTRA_ID_0>", "<|endoftext|>", "<|startoftext|>", "a<|endoftext|>b", "a <|startoftext|> b", "<|ENDOFTEXT|> <|StartOfText|>", "<| endoftext |>", "<|endoftext", "</w> cat</w>",
    "!", "!!", "a!b", "! a !", "wow!Great", "\U0001f600!\u0e44\u0e17\u0e22", "https://example.com/a?b=c&d=e#f", "C:\\Users\\x", "{\"key\": [1, 2, null]}", "<b>bold</b> &amp;",
    "def f(x):\n    return x**2\n", "supercalifragilisticexpialidocious antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "wwwwwwwwwwwwwww hhhhhhhhhh", "\u00e0\u00e0\u00e0", "a  \u0301b", "\u01c6\u1e9e\u0149", "\u212a \u2126", "x\u0323\u0307 \u1e9b\u0323", "\u2160 \u2163 \u33a1 \u3392", "\u00b5 \u03bc", "\u0345 \u1fb3",
    ("a white cat and a black dog, ", 100), ("\U0001f600", 300), ("x", 5000), ("\u732b", 3000), (" ", 2000), ("a ", 3000), ("<extra_id_1>", 100), ("'s", 200), ("\u0e01\u0e33", 200),
]

BRIEF_STRINGS = ["", "a", "a white cat", "a </s>", "<|endoftext|> b"]
