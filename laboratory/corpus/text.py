"""Sentences to speak: those of the system's fortune files where installed, and a few of our own per language."""

from __future__ import annotations

import random
import re
from pathlib import Path

FORTUNES = Path("/usr/share/games/fortunes")
"""Where Debian's fortune packages put their text."""

_FILES = {
    "en": ["literature", "science", "people", "wisdom", "work", "education", "fortunes", "computers", "sports", "food",
           "kids", "law", "politics", "humorists", "platitudes", "miscellaneous", "art", "love", "medicine", "travel"],
    "de": ["de/*"], "es": ["es/*"], "it": ["it/*"], "pt": ["brasil"], "pl": ["pl/*"], "ru": ["ru/*"],
    "zh": ["chinese", "tang300", "song100"], "cs": ["cs/*"],
}
_MOST_FILES = 40

OWN = {
    "en": ["My brother bought five ripe plums and a big brown loaf of bread.",
           "Would you show me the way to the old moon museum, please?",
           "Perhaps the baby will sleep better by the open window.",
           "Very few people ever have the patience to father a film like that.",
           "The weather map promises warm wind from the west by Wednesday.",
           "Oh no, who moved all of the blue shoes from the hallway?",
           "I am happy to be back home, but my bag is somewhere in Bombay.",
           "She wants a cup of coffee, a piece of pie and a moment of peace.",
           "We hope to improve both the map and the model before November.",
           "Mom made pumpkin soup; Bob put pepper in the pot."],
    "de": ["Übermorgen wollen wir mit dem Boot über den Bodensee fahren.",
           "Meine Mutter backt am Abend frisches Brot mit Butter und Marmelade.",
           "Bitte öffnen Sie das Fenster, bevor die Pumpe wieder läuft.",
           "Viele Vögel fliegen im Frühling fröhlich über die Felder.",
           "Warum hast du mir nicht gesagt, dass der Bus so spät kommt?"],
    "fr": ["Bonjour, pouvez-vous me montrer le chemin vers la bibliothèque ?",
           "Ma petite sœur boit un bol de chocolat chaud avec du pain beurré.",
           "Nous voulions voir un film, mais le cinéma était déjà fermé.",
           "Il pleut beaucoup au printemps, et pourtant les pommiers fleurissent.",
           "Je vous propose une promenade au bord du fleuve demain matin.",
           "Où avez-vous appris à parler aussi bien le portugais ?",
           "Le pompier a sauvé deux bébés et un vieux chien brun.",
           "Personne ne peut prévoir ce que l'avenir nous prépare.",
           "Quand la nuit tombe, la ville s'allume peu à peu.",
           "Maman, puis-je avoir un morceau de fromage et une poire ?"],
    "es": ["Buenos días, ¿puede usted abrir la puerta, por favor?",
           "Mi abuela prepara una buena sopa de pimientos y papas.",
           "Vamos a pasear por el puerto cuando baje el sol.",
           "El pueblo guarda muchas historias de hombres y caballos.",
           "Nunca imaginé que un viaje tan breve cambiaría mi vida."],
    "it": ["Buongiorno, vorrei un piatto di pasta e un bicchiere d'acqua.",
           "Mio fratello ha comprato un bel libro di poesie moderne.",
           "Quando piove, i bambini giocano volentieri in casa.",
           "Non capisco perché nessuno voglia parlare di questo problema.",
           "Domani mattina prendiamo insieme il primo treno per Bologna."],
    "pt": ["Bom dia, a senhora pode me mostrar o caminho para o mercado?",
           "Minha mãe faz um bolo de banana muito bom para a família.",
           "Quando o barco voltar, vamos comer peixe perto da praia.",
           "Ninguém sabe por que o povo parou de falar do prefeito.",
           "Amanhã eu compro pão, manteiga e um pouco de mel."],
    "pl": ["Proszę otworzyć okno, bo bardzo tu duszno.", "Mama piecze placek z jabłkami i podaje go babci.",
           "Wczoraj byliśmy na pięknym koncercie w parku.", "Bardzo lubię poranną kawę i świeże bułki z masłem."],
    "ru": ["Доброе утро, покажите, пожалуйста, дорогу к музею.", "Мой брат купил пять больших яблок и белый хлеб.",
           "Бабушка пьёт чай с мёдом и вспоминает прошлое.", "Весной птицы возвращаются к нашему тихому озеру."],
    "zh": ["妈妈明天早上要去买面包和苹果。", "请问图书馆在什么地方?", "我们朋友们都不怕冬天的北风。",
           "他慢慢地把门打开,看见一片白雪。",
           "别忘了给奶奶打个电话。", "爸爸每天晚上都陪我们跑步。"],
    "hi": ["मेरा भाई बाज़ार से पाँच आम और थोड़ी मिठाई लाया।", "क्या आप मुझे पुस्तकालय का रास्ता बता सकते हैं?",
           "बारिश के बाद मौसम बहुत अच्छा हो गया है।", "माँ ने पूरे परिवार के लिए गरम खाना बनाया।",
           "हम सब मिलकर यह काम पूरा करेंगे।"],
    "nl": ["Mijn broer koopt elke morgen verse broodjes bij de bakker.", "Wilt u alstublieft het raam openen?",
           "We wandelen graag door het bos als het zonnetje schijnt.", "Oma vertelt mooie verhalen over vroeger."],
    "sv": ["Min mamma bakar bröd och bjuder på varm mjölk.", "Kan du visa mig vägen till biblioteket?",
           "På sommaren badar vi i sjön bakom huset.", "Farfar berättar om båtar och vilda djur."],
    "tr": ["Annem bize bugün bamya ve pilav pişirdi.", "Kütüphaneye nasıl gidebilirim, lütfen söyler misiniz?",
           "Bahar gelince bütün ağaçlar çiçek açar.", "Babam her akşam parkta yürüyüş yapar."],
    "id": ["Ibu membeli buah mangga dan pisang di pasar pagi.", "Bisakah Anda menunjukkan jalan ke perpustakaan?",
           "Besok kami pergi berlibur bersama paman dan bibi.", "Pemandangan di puncak gunung itu sangat indah."],
    "el": ["Η μητέρα μου μαγειρεύει φασολάδα και πίτα.", "Μπορείτε να μου δείξετε τον δρόμο για το μουσείο;",
           "Το πρωί πίνουμε καφέ μπροστά στη θάλασσα.", "Ο παππούς μιλάει πάντα για παλιές ιστορίες."],
    "hu": ["Anyám minden vasárnap finom ebédet főz a családnak.", "Megmutatná, kérem, merre van a múzeum?",
           "Tavasszal virágba borul az egész város.", "A bátyám vett egy pár új piros cipőt."],
    "ro": ["Bunica prepară o supă bună pentru toată familia.", "Puteți să îmi arătați drumul spre bibliotecă?",
           "Primăvara, păsările se întorc pe malul apei.", "Fratele meu a cumpărat pâine, brânză și mere."],
    "fi": ["Äiti leipoo pullaa ja keittää kahvia koko perheelle.", "Voisitteko näyttää minulle tien museoon?",
           "Kesällä uimme järvessä ja poimimme mustikoita.", "Pieni poika osti punaisen ilmapallon."],
    "sw": ["Mama anapika wali na maharagwe kwa familia yote.", "Tafadhali nionyeshe njia ya kwenda sokoni.",
           "Watoto wanapenda kucheza mpira baada ya shule.", "Babu alitusimulia hadithi nzuri jana usiku."],
    "cs": ["Maminka upekla bábovku a pozvala celou rodinu.", "Můžete mi prosím ukázat cestu do muzea?",
           "Na jaře kvetou všechny stromy podél potoka.", "Bratr si koupil pět pomerančů a bílé pivo."],
}
_LETTERS = {"ru": "А-Яа-яЁё", "zh": "\u4e00-\u9fff"}


def sentences(language: str, seed: int = 0, folder: Path = FORTUNES) -> list[str]:
    """Shuffled sentences of one language, each once; at least :data:`OWN`, for which the order is also by seed.

    Args:
        language: one of :data:`OWN`'s codes.
        seed: of the order.
        folder: with the fortune files; its absence leaves our own sentences.
    """
    found = set(OWN.get(language, OWN["en"]))
    for pattern in _FILES.get(language, ()):
        for path in sorted(folder.glob(pattern))[:_MOST_FILES]:
            if path.is_file() and path.suffix not in (".dat", ".u8"):
                found.update(_read(path, language))
    ordered = sorted(found)
    random.Random(f"{language}{seed}").shuffle(ordered)
    return ordered


def _read(path: Path, language: str) -> list[str]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    letters = _LETTERS.get(language, "A-Za-zÀ-ɏ")
    least, most = (8, 40) if language == "zh" else (30, 120)
    good = re.compile(rf"^[{letters} ,.!?;:'’,。!?、;-]+$")
    kept = []
    for cookie in re.split(r"\n%\n?", text):
        cookie = re.sub(r"\x1b\[[0-9;]*m", "", cookie)
        cookie = re.sub(r"\s+", " " if language != "zh" else "", re.split(r"\n\s*--", cookie)[0]).strip()
        for sentence in re.split(r"(?<=[.!?]) |(?<=[。!?])", cookie):
            # Capitals open a sentence and do not shout all through it; Chinese has none.
            cased = language == "zh" or sentence[:1].isupper() and sentence.upper() != sentence
            if least <= len(sentence) <= most and cased and good.match(sentence):
                kept.append(sentence)
    return kept
