"""The looks of the edge's page: its colour schemes, and the contrast of its text."""

SCHEMES = ("light", "dark")
CONTRAST = """element => {
    const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = numbers(colour).map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const back = (node) => getComputedStyle(node).backgroundColor;
    let ground = element;
    while (numbers(back(ground))[3] === 0) ground = ground.parentElement;
    const both = [getComputedStyle(element).color, back(ground)];
    const [dark, bright] = both.map(light).sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
}"""
